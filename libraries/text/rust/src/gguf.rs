//! A tokenizer from the metadata of a GGUF file ("tokenizer.ggml.*").

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{json, Value};
use tokenizers::AddedToken;

use crate::bpe::{Bpe, PairTable, Ranking};
use crate::model::{split_merge, Model, MAX_ID};
use crate::pre_tokenizers;
use crate::tokenizer::{Parts, Tokenizer};
use crate::vocabulary::Vocabulary;
use crate::{fail, Result};

/// Types of pieces, as "tokenizer.ggml.token_type" numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

pub struct Arrays<'a> {
    pub tokens: Vec<&'a str>,
    pub scores: &'a [f32],
    pub types: &'a [i32],
    pub merges: Vec<&'a str>,
    pub charsmap: &'a [u8],
}

/// The keys that are no arrays; absent: the default of the model kind, as in llama.cpp.
#[derive(Deserialize)]
pub struct Options {
    model: String,
    #[serde(default)]
    pre: String,
    #[serde(default)]
    ids: HashMap<String, u32>,
    #[serde(default)]
    flags: HashMap<String, bool>,
}

impl Options {
    fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.flags.get(name).copied().unwrap_or(otherwise)
    }
}

pub fn tokenizer(options: &Options, arrays: &Arrays) -> Result<Tokenizer> {
    let n = arrays.tokens.len();
    if n == 0 || n > MAX_ID as usize {
        return fail(format!("tokenizer.ggml.tokens: {n} pieces"));
    }
    for (name, len) in [("scores", arrays.scores.len()), ("token_type", arrays.types.len())] {
        if len != 0 && len != n {
            return fail(format!("tokenizer.ggml.{name}: expected {n} entries, found {len}"));
        }
    }
    let builder = Builder { options, arrays };
    match options.model.as_str() {
        "gpt2" | "gemma4" | "whitespace" => builder.byte_level_bpe(),
        "llama" => builder.sentencepiece_bpe(),
        other => fail(format!(
            "tokenizer.ggml.model: expected gpt2, llama, t5 or bert, found '{other}'"
        )),
    }
}

struct Builder<'a> {
    options: &'a Options,
    arrays: &'a Arrays<'a>,
}

impl Builder<'_> {
    fn kind(&self, id: usize) -> i32 {
        self.arrays.types.get(id).copied().unwrap_or(NORMAL)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        Vocabulary::new(self.arrays.tokens.iter().copied())
    }

    // Control tokens are found in the text as it is, the user's own after normalization.
    fn added_tokens(&self) -> Vec<AddedToken> {
        let token = |(id, text): (usize, &&str)| match self.kind(id) {
            CONTROL | UNKNOWN => Some(AddedToken::from(*text, true).normalized(false)),
            USER_DEFINED => Some(AddedToken::from(*text, false).normalized(true)),
            _ => None,
        };
        self.arrays.tokens.iter().enumerate().filter_map(token).collect()
    }

    // What stands before and after a text when special tokens are added.
    fn post_processor(&self, before: Option<u32>, after: &[Option<u32>]) -> Result<Value> {
        let special = |id: u32| match self.arrays.tokens.get(id as usize) {
            Some(piece) => Ok((id, piece.to_string())),
            None => fail(format!("special token {id} is beyond the vocabulary")),
        };
        let before = before.map(special).transpose()?;
        let after =
            after.iter().flatten().map(|&id| special(id)).collect::<Result<Vec<_>>>()?;
        Ok(template(before.as_slice(), &after))
    }

    fn byte_level_bpe(&self) -> Result<Tokenizer> {
        let name = if self.options.model == "gpt2" { &self.options.pre } else { &self.options.model };
        let pre = pre_tokenizers::by_name(name)?;
        let vocabulary = self.vocabulary()?;
        let ranking = if self.arrays.merges.is_empty() {
            // Kin of tiktoken: the id of a piece is the rank of the merge that makes it.
            Ranking::Pieces((0..vocabulary.len() as u32).collect())
        } else {
            let merges = self.arrays.merges.iter().enumerate().map(|(i, merge)| {
                split_merge(merge).map_err(|e| format!("tokenizer.ggml.merges[{i}]: {e}"))
            });
            let merges = merges.collect::<Result<Vec<_>>>()?;
            let table = PairTable::new(&vocabulary, "", merges.into_iter())
                .map_err(|e| format!("tokenizer.ggml.merges: {e}"))?;
            Ranking::Pairs(table)
        };
        let mut bpe = Bpe::new(vocabulary, ranking);
        bpe.ignore_merges = pre.ignore_merges;
        let add_bos = self.options.flag("add_bos_token", pre.add_bos);
        let add_eos = self.options.flag("add_eos_token", false);
        let add_sep = self.options.flag("add_sep_token", pre.add_sep);
        let mut parts = Parts {
            added_tokens: self.added_tokens(),
            pre_tokenizer: pre.json(),
            post_processor: self.post_processor(
                self.options.id("bos").filter(|_| add_bos),
                &[
                    self.options.id("eos").filter(|_| add_eos && !add_sep),
                    self.options.id("seperator").or(self.options.id("eos")).filter(|_| add_sep),
                ],
            )?,
            decoder: pre_tokenizers::byte_level(false, false),
            ..Parts::default()
        };
        if pre.nfc {
            parts.normalizer = json!({"type": "NFC"});
        }
        if !pre.byte_level {
            bpe.byte_fallback = true;
            bpe.unk = self.options.id("unknown");
            bpe.fuse_unk = true;
            parts.normalizer = json!({"type": "Replace", "pattern": {"String": " "},
                                      "content": "▁"});
            parts.decoder = sentencepiece_decoder(false);
        }
        Tokenizer::from_parts(Model::Bpe(Box::new(bpe)), parts)
    }

    fn sentencepiece_bpe(&self) -> Result<Tokenizer> {
        if self.arrays.scores.is_empty() {
            return fail("tokenizer.ggml.scores: missing, and needed by model 'llama'");
        }
        let ranking = Ranking::from_scores(self.arrays.scores, |id| {
            !matches!(self.kind(id), CONTROL | UNKNOWN | BYTE)
        });
        let mut bpe = Bpe::new(self.vocabulary()?, ranking);
        bpe.unk = Some(self.options.id("unknown").unwrap_or(0));
        bpe.fuse_unk = true;
        bpe.byte_fallback = true;
        let space_prefix = self.options.flag("add_space_prefix", true);
        let add_bos = self.options.flag("add_bos_token", true);
        let add_eos = self.options.flag("add_eos_token", false);
        let parts = Parts {
            added_tokens: self.added_tokens(),
            normalizer: sentencepiece_normalizer(space_prefix),
            post_processor: self.post_processor(
                Some(self.options.id("bos").unwrap_or(1)).filter(|_| add_bos),
                &[Some(self.options.id("eos").unwrap_or(2)).filter(|_| add_eos)],
            )?,
            decoder: sentencepiece_decoder(space_prefix),
            ..Parts::default()
        };
        Tokenizer::from_parts(Model::Bpe(Box::new(bpe)), parts)
    }
}

/// The post-processor that puts `before` and `after` around a text: tokens as (id, piece).
pub fn template(before: &[(u32, String)], after: &[(u32, String)]) -> Value {
    if before.is_empty() && after.is_empty() {
        return Value::Null;
    }
    let special = |type_id: u32| {
        move |(_, piece): &(u32, String)| {
            json!({"SpecialToken": {"id": piece, "type_id": type_id}})
        }
    };
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let mut single: Vec<Value> = before.iter().map(special(0)).collect();
    single.push(sequence("A", 0));
    single.extend(after.iter().map(special(0)));
    let mut pair = single.clone();
    pair.extend(before.iter().map(special(1)));
    pair.push(sequence("B", 1));
    pair.extend(after.iter().map(special(1)));
    let mut tokens = serde_json::Map::new();
    for (id, piece) in before.iter().chain(after) {
        tokens.insert(piece.clone(), json!({"id": piece, "ids": [id], "tokens": [piece]}));
    }
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

/// Spaces become "▁", with one more before the text when `prefix`.
pub fn sentencepiece_normalizer(prefix: bool) -> Value {
    let mut steps = Vec::new();
    if prefix {
        steps.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    json!({"type": "Sequence", "normalizers": steps})
}

pub fn sentencepiece_decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}
