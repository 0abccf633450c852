//! A tokenizer from the metadata of a GGUF file ("tokenizer.ggml.*").

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{json, Value};

use crate::bpe::{Bpe, PairTable, Ranking};
use crate::model::{split_merge, Model, MAX_ID};
use crate::pre_tokenizers;
use crate::sentencepiece::{self, Kind, SentencePiece, SpacePrefix, CONTROL, NORMAL};
use crate::tokenizer::{Parts, Tokenizer};
use crate::vocabulary::Vocabulary;
use crate::vocabulary_files::{
    pair_processor, template, wordpiece_tokenizer, Joint, Special, WordPieceOptions,
};
use crate::{fail, Result};

pub struct Arrays<'a> {
    pub tokens: Vec<&'a str>,
    pub scores: &'a [f32],
    pub types: &'a [i32], // numbered as in sentencepiece.rs
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
        "gpt2" => builder.bpe(&options.pre),
        "gemma4" | "whitespace" => builder.bpe(&options.model),
        "llama" => builder.sentencepiece(Kind::Bpe),
        "t5" => builder.sentencepiece(Kind::Unigram),
        "bert" => builder.wordpiece(),
        other => fail(format!(
            "tokenizer.ggml.model: expected gpt2, llama, t5, bert or gemma4, found '{other}'"
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

    fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.options.flags.get(name).copied().unwrap_or(otherwise)
    }

    // The special token of a key, or the one a model kind has by default where the pieces reach.
    fn special(&self, key: &str, otherwise: Option<u32>) -> Option<Special> {
        let id = self.options.ids.get(key).copied().or(otherwise)?;
        let piece = self.arrays.tokens.get(id as usize)?;
        Some((id, piece.to_string()))
    }

    fn around(&self, bos: Option<Special>, eos: Option<Special>, sep: Option<Special>) -> Value {
        let after: Vec<Special> = eos.into_iter().chain(sep).collect();
        template(bos.as_slice(), &after)
    }

    fn bpe(&self, pre: &str) -> Result<Tokenizer> {
        let pre = pre_tokenizers::by_name(pre)?;
        let vocabulary = Vocabulary::new(self.arrays.tokens.iter().copied())?;
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
        let bos = self.special("bos", None).filter(|_| self.flag("add_bos_token", pre.add_bos));
        let eos = self.special("eos", None).filter(|_| self.flag("add_eos_token", false));
        let sep = self.special("seperator", None);
        let sep = sep.filter(|_| self.flag("add_sep_token", pre.add_sep));
        let mut parts = Parts {
            added_tokens: sentencepiece::added_tokens(&self.arrays.tokens, |id| self.kind(id)),
            pre_tokenizer: pre.json(),
            post_processor: self.around(bos, eos.filter(|_| sep.is_none()), sep),
            decoder: pre_tokenizers::byte_level(false, false),
            ..Parts::default()
        };
        if pre.nfc {
            parts.normalizer = json!({"type": "NFC"});
        }
        if !pre.byte_level {
            bpe.byte_fallback = true;
            bpe.unk = self.special("unknown", None).map(|(id, _)| id);
            bpe.fuse_unk = true;
            parts.normalizer =
                json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
            parts.decoder = sentencepiece::decoder(false);
        }
        Tokenizer::from_parts(Model::Bpe(Box::new(bpe)), parts)
    }

    fn sentencepiece(&self, kind: Kind) -> Result<Tokenizer> {
        if self.arrays.scores.is_empty() {
            return fail(format!(
                "tokenizer.ggml.scores: missing, and needed by model '{}'",
                self.options.model
            ));
        }
        let bpe = kind == Kind::Bpe;
        let bos = self.special("bos", bpe.then_some(1)).filter(|_| self.flag("add_bos_token", bpe));
        let eos = self.special("eos", Some(if bpe { 2 } else { 1 }));
        let eos = eos.filter(|_| self.flag("add_eos_token", !bpe));
        let unk = self.special("unknown", Some(if bpe { 0 } else { 2 }));
        let model = SentencePiece {
            kind,
            pieces: self.arrays.tokens.clone(),
            scores: self.arrays.scores.to_vec(),
            types: self.arrays.types.to_vec(),
            unk: unk.map(|(id, _)| id),
            bos: None,
            eos: None,
            byte_fallback: bpe,
            charsmap: self.arrays.charsmap,
            space_prefix: match self.flag("add_space_prefix", true) {
                true => SpacePrefix::Each,
                false => SpacePrefix::None,
            },
            remove_extra_spaces: self.flag("remove_extra_whitespaces", false),
        };
        model.tokenizer(self.around(bos, eos, None))
    }

    // GGUF marks the pieces that start a word, with "▁"; vocab.txt those that do not, with "##".
    fn wordpiece(&self) -> Result<Tokenizer> {
        let piece = |(id, text): (usize, &&str)| {
            let bracketed = text.starts_with('[') && text.ends_with(']');
            match text.strip_prefix('▁') {
                Some(word) => word.to_owned(),
                None if bracketed || self.kind(id) == CONTROL => text.to_string(),
                None => format!("##{text}"),
            }
        };
        let special = |key, otherwise| self.special(key, Some(otherwise));
        // Newer files name it "bos" only.
        let cls = self.special("cls", None).or_else(|| special("bos", 101));
        let sep = special("seperator", 102);
        let options = WordPieceOptions {
            lowercase: self.flag("normalizer.lowercase", true),
            strip_accents: self.options.flags.get("normalizer.strip_accents").copied(),
            chinese: true,
            unk: special("unknown", 100),
            special: [special("unknown", 100), cls.clone(), sep.clone(), special("padding", 0)]
                .into_iter()
                .flatten()
                .collect(),
        };
        let pieces = self.arrays.tokens.iter().enumerate().map(piece).collect();
        wordpiece_tokenizer(pieces, options, pair_processor(Joint::Bert, cls, sep)?)
    }
}
