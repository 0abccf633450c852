//! Chat templates with the behaviour of transformers' apply_chat_template (utils/
//! chat_template_utils.py), which is Jinja2's immutable sandbox with a few functions more.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde_json::{Map, Value as Json};

use crate::bounded::{self, Bounds};
use crate::clock::strftime_now;
use crate::generation::without_generation_tags;
use crate::{fail, json, python, Result};

/// Instructions, and each 64 bytes that are made, that a rendering may cost; the input may be
/// handled that many times over. Real templates stay under a hundredth of it.
const FUEL: u64 = 2_000_000;
/// What fuel does not see (bounded.rs), the memory beside the input's own.
const SECONDS: u64 = 20;
const MEMORY: usize = 256 << 20;
const MAX_TEMPLATE: usize = 4 << 20;
const RECURSION: usize = 200;

pub struct Template {
    environment: Environment<'static>,
    sources: BTreeMap<String, String>,
    special_tokens: Map<String, Json>,
}

impl Template {
    /// `sources`: the text of each named template ("default", "tool_use", ...).
    pub fn new(
        sources: BTreeMap<String, String>,
        special_tokens: Map<String, Json>,
    ) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(RECURSION);
        environment.set_formatter(write_value);
        environment.set_unknown_method_callback(python::call_method);
        environment.remove_global("debug");
        environment.add_filter("tojson", json::tojson);
        python::add_builtins(&mut environment);
        environment.add_function("strftime_now", strftime_now);
        environment.add_function(
            "raise_exception",
            |state: &State, message: Value| -> std::result::Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, python::str(state, &message)?))
            },
        );
        for (name, source) in &sources {
            if source.len() > MAX_TEMPLATE {
                return fail(format!("{name}: larger than {MAX_TEMPLATE} bytes"));
            }
        }
        let texts = sources.clone();
        let environment = bounded::run(Bounds { seconds: SECONDS, bytes: MEMORY }, move || {
            for (name, source) in texts {
                let source = without_generation_tags(&source);
                environment.add_template_owned(name, source).map_err(|e| describe(&e))?;
            }
            Ok(environment)
        })?;
        Ok(Self { environment, sources, special_tokens })
    }

    /// `messages` and `context` as transformers' apply_chat_template takes them.
    pub fn render(&self, messages: &str, context: &str) -> Result<String> {
        let size = messages.len() + context.len();
        let parse =
            |what: &str, text: &str| serde_json::from_str(text).map_err(|e| format!("{what}: {e}"));
        let Json::Array(mut messages) = parse("messages", messages)? else {
            return fail("messages: expected a list");
        };
        let Json::Object(arguments) = parse("context", context)? else {
            return fail("context: expected an object");
        };
        if arguments.contains_key("messages") {
            return fail("context: 'messages' is given twice: it names the conversation itself");
        }
        if messages.is_empty() {
            return fail("messages: the conversation is empty");
        }
        for message in &mut messages {
            let Json::Object(message) = message else {
                return fail(format!("messages: expected objects, found {message}"));
            };
            message.retain(|_, value| !value.is_null());
            alias_reasoning(message);
        }

        let mut all = self.special_tokens.clone();
        for (name, value) in [
            ("tools", Json::Null),
            ("documents", Json::Null),
            ("add_generation_prompt", false.into()),
        ] {
            all.insert(name.to_owned(), value);
        }
        all.extend(arguments);
        let continued = match all.shift_remove("continue_final_message") {
            None | Some(Json::Null) | Some(Json::Bool(false)) => None,
            Some(Json::String(field)) if !field.is_empty() => Some(field),
            Some(_) => Some("content".to_owned()),
        };
        for name in ["tools", "documents"] {
            match &all[name] {
                Json::Null => {}
                Json::Array(items) if items.iter().all(Json::is_object) => {}
                _ => return fail(format!("{name}: expected a list of objects")),
            }
        }
        let name = self.choose(&all)?;
        let mark = match &continued {
            None => None,
            Some(_) if all["add_generation_prompt"] == Json::Bool(true) => {
                return fail("continue_final_message and add_generation_prompt exclude each other");
            }
            Some(field) => Some(mark_final(&mut messages, field, &self.sources[name])?),
        };

        all.insert("messages".to_owned(), Json::Array(messages));
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + size as u64));
        let bounds = Bounds { seconds: SECONDS, bytes: MEMORY + 64 * size };
        let name = name.to_owned();
        let text = bounded::run(bounds, move || {
            let template = environment.get_template(&name).map_err(|e| describe(&e))?;
            template.render(json::value(&Json::Object(all))).map_err(|e| describe(&e))
        })?;
        match mark {
            None => Ok(text),
            Some(final_text) => cut_at_mark(text, &final_text),
        }
    }

    fn choose(&self, context: &Map<String, Json>) -> Result<&str> {
        let pick = |name: &str| self.sources.get_key_value(name).map(|(name, _)| name.as_str());
        if !context["tools"].is_null() {
            if let Some(name) = pick("tool_use") {
                return Ok(name);
            }
        }
        pick("default").ok_or_else(|| {
            let names: Vec<&str> = self.sources.keys().map(String::as_str).collect();
            format!("no template named 'default'; there are: {}", names.join(", "))
        })
    }
}

const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

// The model's reasoning goes by several names; templates read one of the first two.
fn alias_reasoning(message: &mut Map<String, Json>) {
    let Some(reasoning) = REASONING.iter().find_map(|&name| message.get(name)).cloned() else {
        return;
    };
    if !message.contains_key("thinking") {
        message.shift_insert(0, "thinking".to_owned(), reasoning.clone());
    }
    message.insert("reasoning_content".to_owned(), reasoning);
}

const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

// Puts a mark after the final message, so that the text can be cut there; gives the message.
fn mark_final(messages: &mut [Json], field: &str, source: &str) -> Result<String> {
    let last = messages.last_mut().and_then(Json::as_object_mut).expect("checked above");
    let Some(text) = last.get(field).cloned() else {
        return fail(format!(
            "continue_final_message: the final message has no '{field}' to continue"
        ));
    };
    let mut fields = vec![field];
    if REASONING.contains(&field) {
        fields = REASONING.into_iter().filter(|name| last.get(*name) == Some(&text)).collect();
    }
    if !fields.iter().any(|name| source.contains(name)) {
        return fail(format!("continue_final_message: the template does not read '{field}'"));
    }
    let append = |value: &mut Json| match value {
        Json::String(text) => {
            let before = text.clone();
            text.push_str(MARK);
            Ok(before)
        }
        other => fail(format!("continue_final_message: expected text, found {other}")),
    };
    if text.is_array() {
        let blocks = last.get_mut(field).and_then(Json::as_array_mut).expect("an array");
        return match blocks.iter_mut().rev().find_map(|block| block.get_mut("text")) {
            Some(text) => append(text),
            None => fail("continue_final_message: the final message has no text to continue"),
        };
    }
    let mut before = String::new();
    for name in fields {
        before = append(last.get_mut(name).expect("present"))?;
    }
    Ok(before)
}

fn cut_at_mark(mut text: String, final_text: &str) -> Result<String> {
    let place = text.rfind(MARK.trim());
    let (Some(place), true) = (place, text.contains(python::strip(final_text))) else {
        return fail("continue_final_message: the template leaves out the final message");
    };
    let spaced = text[place..].starts_with(MARK);
    text.truncate(place);
    if !spaced {
        text.truncate(python::strip_end(&text).len());
    }
    Ok(text)
}

fn write_value(
    out: &mut Output,
    state: &mut State,
    value: &Value,
) -> std::result::Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&python::str(state, value)?).map_err(Error::from),
    }
}

// "default:12: message", in one line, of the innermost place that is known.
fn describe(error: &Error) -> String {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}:{line}: "),
        _ => String::new(),
    };
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            "the template takes too long, or makes too much text".to_owned()
        }
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    format!("{place}{what}").replace(['\n', '\r'], " ")
}
