//! What templates see of Python: how values print, and the methods and filters that the engine has
//! not, or has otherwise than Python and Jinja2.

use std::fmt::Write;

use minijinja::value::{from_args, Kwargs, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use crate::json::float;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

// str.isspace: Unicode's white space and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

pub fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Python's str(): text as it is, the rest as repr().
pub fn str(state: &State, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Undefined => Ok(String::new()),
        _ => {
            let mut out = String::new();
            repr(state, value, &mut out)?;
            Ok(out)
        }
    }
}

// A value may stand in a structure many times over: each time costs fuel.
fn repr(state: &State, value: &Value, out: &mut String) -> Result<(), Error> {
    let before = out.len();
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(x) => out.push_str(&float(x)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::String => repr_text(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            let tuple = value.downcast_object_ref::<Tuple>().is_some();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                repr(state, &item, out)?;
                count += 1;
            }
            out.push_str(match (tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            });
        }
        ValueKind::Map if value.try_iter().is_ok() => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(state, &key, out)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").map_err(Error::from)?,
    }
    state.consume_fuel(1 + (out.len() - before) as u64 / 64)
}

fn repr_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = c as u32;
                match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                }
                .expect("a String takes all");
            }
        }
    }
    out.push(quote);
}

// str.isprintable is what Rust's Debug leaves as it is, once marks have a letter to stand on.
fn is_printable(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || {
        let text: String = ['a', c].iter().collect();
        text.escape_debug().count() == 2
    }
}

/// Filters, tests and functions that differ from Jinja2's, or are missing.
pub fn add_builtins(environment: &mut Environment) {
    environment.add_filter("string", |state: &State, value: Value| str(state, &value));
    environment.add_filter("pprint", |state: &State, value: Value| {
        let mut out = String::new();
        repr(state, &value, &mut out).map(|()| out)
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("wordcount", |text: &str| {
        text.split(is_space).filter(|w| !w.is_empty()).count()
    });
    environment.add_filter("center", |state: &State, text: &str, width: Option<usize>| {
        pad(state, text, width.unwrap_or(80), ' ', Align::Center)
    });
    environment.add_filter("indent", indent);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, |state: &State, value: Value| {
            let text = str(state, &value)?;
            state.consume_fuel(text.len() as u64 / 8)?;
            Ok::<_, Error>(text.chars().fold(String::new(), |mut out, c| {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '"' => out.push_str("&#34;"),
                    '\'' => out.push_str("&#39;"),
                    c => out.push(c),
                }
                out
            }))
        });
    }
    environment.add_filter("float", |value: Value, otherwise: Option<f64>| -> f64 {
        let text = value.as_str().and_then(|text| strip(text).parse().ok());
        text.or_else(|| f64::try_from(value.clone()).ok()).or(otherwise).unwrap_or(0.0)
    });
    environment.add_filter("int", int);
    environment.add_function("dict", dict);
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
}

// int(value, default=0, base=10): what is no number is the default.
fn int(value: Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let named = |name| kwargs.get::<Option<Value>>(name);
    let otherwise = args.first().cloned().or(named("default")?).unwrap_or_else(|| Value::from(0));
    let base = args.get(1).cloned().or(named("base")?).and_then(|base| base.as_usize());
    kwargs.assert_all_used()?;
    if value.is_integer() {
        return Ok(value);
    }
    let float = match value.as_str() {
        Some(text) => {
            let base = base.filter(|base| (2..=36).contains(base)).unwrap_or(10) as u32;
            let digits = strip(text).to_lowercase();
            let prefix = match base {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                _ => "",
            };
            let digits = digits.strip_prefix(prefix).unwrap_or(&digits);
            if let Ok(number) = i64::from_str_radix(digits, base) {
                return Ok(Value::from(number));
            }
            digits.parse::<f64>().ok()
        }
        None if value.kind() == ValueKind::Bool => return Ok(Value::from(value.is_true() as i64)),
        None => f64::try_from(value).ok(),
    };
    Ok(match float.filter(|x| x.abs() < 9e18) {
        Some(x) => Value::from(x as i64),
        None => otherwise,
    })
}

// dict(mapping or pairs, **more)
fn dict(of: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let mut entries = Vec::new();
    if let Some(of) = of.filter(|of| !of.is_undefined()) {
        for item in of.try_iter()? {
            if of.kind() == ValueKind::Map {
                entries.push((item.clone(), of.get_item(&item)?));
                continue;
            }
            let pair: Vec<Value> = item.try_iter()?.collect();
            match <[Value; 2]>::try_from(pair) {
                Ok([key, value]) => entries.push((key, value)),
                Err(_) => return Err(invalid("dict: expected pairs of a key and a value")),
            }
        }
    }
    for name in more.args() {
        entries.push((Value::from(name), more.get(name)?));
    }
    Ok(Value::from_pairs(entries))
}

fn default(value: Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let named = |name| kwargs.get::<Option<Value>>(name);
    let other = args.first().cloned().or(named("default_value")?);
    let falsy = args.get(1).cloned().or(named("boolean")?).is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || falsy && !value.is_true() {
        other.unwrap_or_else(|| Value::from(""))
    } else {
        value
    })
}

// indent(s, width=4, first=False, blank=False); the width may be the text to put before a line.
fn indent(state: &State, text: &str, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let argument = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named = kwargs.get::<Option<Value>>(name)?;
        Ok(args.get(place).cloned().or(named))
    };
    let lines = text.split('\n').count();
    let by = match argument(0, "width")? {
        None => "    ".to_owned(),
        Some(v) => match (v.as_str(), v.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(n)) => {
                charge(state, n.saturating_mul(lines))?;
                " ".repeat(n)
            }
            _ => return Err(invalid("indent: expected a number or a text")),
        },
    };
    let flag = |v: Option<Value>| v.is_some_and(|v| v.is_true());
    let (first, blank) = (flag(argument(1, "first")?), flag(argument(2, "blank")?));
    kwargs.assert_all_used()?;
    charge(state, text.len().saturating_add(by.len().saturating_mul(lines)))?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    Ok(out)
}

// Before a text of that many bytes is made.
fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + bytes as u64 / 64)
}

enum Align {
    Left,
    Right,
    Center,
}

fn pad(state: &State, text: &str, width: usize, fill: char, align: Align) -> Result<String, Error> {
    let len = text.chars().count();
    let missing = width.saturating_sub(len);
    charge(state, text.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
    let left = match align {
        Align::Left => 0,
        Align::Right => missing,
        // As CPython rounds: to the left when both numbers are odd.
        Align::Center => missing / 2 + (missing & width & 1),
    };
    let fills = |n: usize| std::iter::repeat_n(fill, n);
    Ok(fills(left).chain(text.chars()).chain(fills(missing - left)).collect())
}

pub fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let result = match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(text.len() as u64 / 64)?;
            string_method(state, text, method, args)?
        }
        ValueKind::Map if method == "copy" => {
            from_args::<()>(args).map(|()| Some(value.clone()))?
        }
        ValueKind::Seq => match method {
            "copy" => from_args::<()>(args).map(|()| Some(value.clone()))?,
            "index" => {
                let (what,): (Value,) = from_args(args)?;
                match value.try_iter()?.position(|item| item == what) {
                    Some(place) => Some(Value::from(place)),
                    None => return Err(invalid("index: the value is not in the list")),
                }
            }
            _ => None,
        },
        ValueKind::Number if method == "is_integer" => {
            let x = f64::try_from(value.clone()).unwrap_or(0.5);
            Some(Value::from(value.is_integer() || x.fract() == 0.0))
        }
        _ => None,
    };
    match result {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

// The place in characters that a method's optional start and end arguments select, in bytes.
fn range(text: &str, start: Option<i64>, end: Option<i64>) -> std::ops::Range<usize> {
    let count = text.chars().count() as i64;
    let place = |i: i64| {
        let i = if i < 0 { (i + count).max(0) } else { i.min(count) };
        text.char_indices().nth(i as usize).map_or(text.len(), |(byte, _)| byte)
    };
    let start = start.map_or(0, place);
    start..end.map_or(text.len(), place).max(start)
}

fn characters(text: &str, bytes: usize) -> Value {
    Value::from(text[..bytes].chars().count())
}

fn string_method(
    state: &State,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
            let mut rest = text;
            if method != "rstrip" {
                rest = rest.trim_start_matches(drop);
            }
            if method != "lstrip" {
                rest = rest.trim_end_matches(drop);
            }
            Value::from(rest)
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            lines(text, keep)
        }
        "replace" => {
            let (old, new, count, kwargs): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
            let count = count.or(kwargs.get("count")?).unwrap_or(-1);
            kwargs.assert_all_used()?;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let found = text.matches(old).take(count).count();
            charge(state, text.len().saturating_add(found.saturating_mul(new.len())))?;
            Value::from(text.replacen(old, new, found))
        }
        "join" => {
            let (values,): (Value,) = from_args(args)?;
            let mut out = String::new();
            for (i, value) in values.try_iter()?.enumerate() {
                let Some(part) = value.as_str() else {
                    return Err(invalid(format!(
                        "join: expected texts, found a value of type {}",
                        value.kind()
                    )));
                };
                let separator = if i > 0 { text } else { "" };
                charge(state, separator.len() + part.len())?;
                out.extend([separator, part]);
            }
            Value::from(out)
        }
        "format" => {
            check_widths(text)?;
            return Ok(None);
        }
        "startswith" | "endswith" => {
            let (what, start, end): (Value, Option<i64>, Option<i64>) = from_args(args)?;
            let part = &text[range(text, start, end)];
            let fits = |what: &Value| {
                let what =
                    what.as_str().ok_or_else(|| invalid(format!("{method}: expected a text")))?;
                Ok::<_, Error>(match method {
                    "startswith" => part.starts_with(what),
                    _ => part.ends_with(what),
                })
            };
            Value::from(match what.as_str() {
                Some(_) => fits(&what)?,
                None => what
                    .try_iter()?
                    .map(|w| fits(&w))
                    .collect::<Result<Vec<_>, _>>()?
                    .contains(&true),
            })
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let part = range(text, start, end);
            let found = match method {
                "find" | "index" => text[part.clone()].find(what),
                _ => text[part.clone()].rfind(what),
            };
            match found {
                Some(place) => characters(text, part.start + place),
                None if method.ends_with("index") => return Err(invalid("substring not found")),
                None => Value::from(-1),
            }
        }
        "count" => {
            let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            Value::from(text[range(text, start, end)].matches(what).count())
        }
        "partition" | "rpartition" => {
            let (what,): (&str,) = from_args(args)?;
            if what.is_empty() {
                return Err(invalid("empty separator"));
            }
            let (found, front) = match method {
                "partition" => (text.split_once(what), true),
                _ => (text.rsplit_once(what), false),
            };
            match (found, front) {
                (Some((before, after)), _) => tuple([before, what, after]),
                (None, true) => tuple([text, "", ""]),
                (None, false) => tuple(["", "", text]),
            }
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<char>) = from_args(args)?;
            let align = match method {
                "ljust" => Align::Left,
                "rjust" => Align::Right,
                _ => Align::Center,
            };
            Value::from(pad(state, text, width.max(0) as usize, fill.unwrap_or(' '), align)?)
        }
        "zfill" => {
            let (width,): (i64,) = from_args(args)?;
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len().min(1).min(text.len() - digits.len())];
            let rest = &text[sign.len()..];
            let width = (width.max(0) as usize).saturating_sub(sign.len());
            Value::from(format!("{sign}{}", pad(state, rest, width, '0', Align::Right)?))
        }
        "expandtabs" => {
            let (size,): (Option<usize>,) = from_args(args)?;
            expand_tabs(state, text, size.unwrap_or(8))?
        }
        "swapcase" => text
            .chars()
            .flat_map(|c| -> Vec<char> {
                if c.is_lowercase() {
                    c.to_uppercase().collect()
                } else {
                    c.to_lowercase().collect()
                }
            })
            .collect::<String>()
            .into(),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "title" => Value::from(title(text)),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(is_decimal)),
        "isdigit" => Value::from(
            !text.is_empty()
                && text.chars().all(|c| is_decimal(c) || "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉".contains(c)),
        ),
        "istitle" => Value::from(text.chars().any(char::is_alphabetic) && title(text) == text),
        "isidentifier" => Value::from(
            text.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !text.starts_with(|c: char| c.is_numeric())
                && !text.is_empty(),
        ),
        _ => return Ok(None),
    }))
}

// Digits of decimal systems are a numeric class that Rust has not; those of Unicode's planes that
// chats are written in are runs of ten.
fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 13] =
        [0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xe50, 0xed0, 0xff10];
    ZEROS.iter().any(|&zero| (zero..zero + 10).contains(&(c as u32)))
}

// str.title: a letter after none is upper case, after another lower case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?).filter(|v| !v.is_none() && !v.is_undefined());
    let limit = limit.or(kwargs.get("maxsplit")?).unwrap_or(-1);
    kwargs.assert_all_used()?;
    let limit = usize::try_from(limit).map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some(separator) => {
            let separator = separator.as_str().ok_or_else(|| invalid("split: expected a text"))?;
            match (separator, from_end) {
                ("", _) => return Err(invalid("empty separator")),
                (_, true) => text.rsplitn(limit, separator).collect(),
                (_, false) => text.splitn(limit, separator).collect(),
            }
        }
        None => split_words(text, limit, from_end),
    };
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

// By runs of white space; from the end: the last word first.
fn split_words(text: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end { strip_end(rest) } else { rest.trim_start_matches(is_space) };
        if rest.is_empty() {
            return words;
        }
        if words.len() + 1 == limit {
            words.push(rest); // with the spaces at its far end
            return words;
        }
        let word;
        (word, rest) = if from_end {
            let start = rest
                .rfind(is_space)
                .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
            (&rest[start..], &rest[..start])
        } else {
            rest.split_at(rest.find(is_space).unwrap_or(rest.len()))
        };
        words.push(word);
    }
}

fn lines(text: &str, keep: bool) -> Value {
    let is_break = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_break) {
        let len = rest[at..].chars().next().map_or(1, char::len_utf8);
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { len };
        parts.push(Value::from(&rest[..if keep { end } else { at }]));
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        parts.push(Value::from(rest));
    }
    Value::from(parts)
}

fn expand_tabs(state: &State, text: &str, size: usize) -> Result<Value, Error> {
    charge(state, text.matches('\t').count().saturating_mul(size))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(Value::from(out))
}

// The engine's str.format makes texts of any width that is asked for.
fn check_widths(format: &str) -> Result<(), Error> {
    let longest =
        format.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.len()).max().unwrap_or(0);
    if longest > 4 {
        return Err(invalid("format: a width or precision of more than four digits"));
    }
    Ok(())
}
