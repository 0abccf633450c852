//! SentencePiece models: unigram and BPE, from their own file format (sentencepiece_model.proto)
//! and from GGUF, which carries the same fields.

use serde_json::{json, Value};
use tokenizers::AddedToken;

use crate::bpe::{Bpe, Ranking};
use crate::model::{Model, MAX_ID};
use crate::protobuf::{Field, Fields};
use crate::tokenizer::{Parts, Tokenizer};
use crate::unigram::Unigram;
use crate::vocabulary::Vocabulary;
use crate::{fail, Result};

/// Types of pieces, the same in GGUF. Byte pieces (6) come from byte fallback alone.
pub const NORMAL: i32 = 1;
pub const UNKNOWN: i32 = 2;
pub const CONTROL: i32 = 3;
pub const USER_DEFINED: i32 = 4;
pub const UNUSED: i32 = 5;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Unigram,
    Bpe,
}

/// Which texts get a space before them.
#[derive(Clone, Copy, PartialEq)]
pub enum SpacePrefix {
    None,
    /// The text, and what follows a special token in it.
    Each,
    First,
}

pub struct SentencePiece<'a> {
    pub kind: Kind,
    pub pieces: Vec<&'a str>,
    pub scores: Vec<f32>,
    pub types: Vec<i32>,
    pub unk: Option<u32>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub byte_fallback: bool,
    pub charsmap: &'a [u8],
    pub space_prefix: SpacePrefix,
    pub remove_extra_spaces: bool,
}

impl<'a> SentencePiece<'a> {
    /// A tokenizer.model.
    pub fn read(file: &'a [u8]) -> Result<Self> {
        let mut this = Self {
            kind: Kind::Unigram,
            pieces: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
            unk: Some(0),
            bos: Some(1),
            eos: Some(2),
            byte_fallback: false,
            charsmap: &[],
            space_prefix: SpacePrefix::Each,
            remove_extra_spaces: true,
        };
        let mut fields = Fields::new(file);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(piece)) => this.read_piece(piece)?,
                (2, Field::Bytes(trainer)) => this.read_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => this.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if this.pieces.is_empty() {
            return fail("a SentencePiece model without pieces");
        }
        let len = this.pieces.len() as u32;
        for id in [&mut this.unk, &mut this.bos, &mut this.eos] {
            *id = id.filter(|&id| id < len);
        }
        Ok(this)
    }

    fn read_piece(&mut self, message: &'a [u8]) -> Result<()> {
        let at = self.pieces.len();
        if at >= MAX_ID as usize {
            return fail(format!("more than {MAX_ID} pieces"));
        }
        let (mut text, mut score, mut kind) = ("", 0.0, NORMAL);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(bytes)) => {
                    text = std::str::from_utf8(bytes)
                        .map_err(|_| format!("piece {at} is not UTF-8"))?;
                }
                (2, Field::Float(x)) => score = x,
                (3, Field::Number(x)) => kind = x as i32,
                _ => {}
            }
        }
        self.pieces.push(text);
        self.scores.push(score);
        self.types.push(kind);
        Ok(())
    }

    fn read_trainer(&mut self, message: &'a [u8]) -> Result<()> {
        let id = |x: u64| u32::try_from(x as i32).ok(); // -1: none
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            let Field::Number(x) = field else { continue };
            match number {
                3 => {
                    self.kind = match x {
                        1 => Kind::Unigram,
                        2 => Kind::Bpe,
                        _ => {
                            return fail(format!(
                                "SentencePiece model type {x}: only unigram (1) and BPE (2) are known"
                            ))
                        }
                    }
                }
                35 => self.byte_fallback = x != 0,
                40 => self.unk = id(x),
                41 => self.bos = id(x),
                42 => self.eos = id(x),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (2, Field::Bytes(charsmap)) => self.charsmap = charsmap,
                (3, Field::Number(0)) => self.space_prefix = SpacePrefix::None,
                (4, Field::Number(x)) => self.remove_extra_spaces = x != 0,
                _ => {}
            }
        }
        Ok(())
    }

    pub fn kind_of(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    pub fn tokenizer(&self, post_processor: Value) -> Result<Tokenizer> {
        let mut parts = Parts {
            added_tokens: added_tokens(&self.pieces, |id| self.kind_of(id)),
            normalizer: self.normalizer(),
            post_processor,
            decoder: decoder(self.space_prefix != SpacePrefix::None),
            ..Parts::default()
        };
        if self.space_prefix == SpacePrefix::First {
            parts.pre_tokenizer = json!({"type": "Metaspace", "replacement": "▁",
                                         "prepend_scheme": "first", "split": false});
        }
        let vocabulary = Vocabulary::new(self.pieces.iter().copied())?;
        let merges = |id| matches!(self.kind_of(id), NORMAL | USER_DEFINED | UNUSED);
        let model = match self.kind {
            Kind::Bpe => {
                let mut bpe = Bpe::new(vocabulary, Ranking::from_scores(&self.scores, merges));
                bpe.unk = self.unk;
                bpe.fuse_unk = true;
                bpe.byte_fallback = self.byte_fallback;
                Model::Bpe(Box::new(bpe))
            }
            Kind::Unigram => {
                let Some(unk) = self.unk else {
                    return fail("a unigram model needs an unknown token");
                };
                let scores = self.scores.iter().map(|&x| f64::from(x)).collect();
                let mut unigram = Unigram::new(vocabulary, scores, unk, merges);
                unigram.byte_fallback = self.byte_fallback;
                Model::Unigram(Box::new(unigram))
            }
        };
        Tokenizer::from_parts(model, parts)
    }

    // The character map, then the spaces: extra ones away, one before the text, all as "▁".
    fn normalizer(&self) -> Value {
        let mut steps = Vec::new();
        if !self.charsmap.is_empty() {
            steps.push(json!({"type": "Precompiled",
                              "precompiled_charsmap": base64(self.charsmap)}));
        }
        if self.remove_extra_spaces {
            steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
            let ends = r"\A +| +\z"; // ^ and $ are those of lines here
            steps.push(json!({"type": "Replace", "pattern": {"Regex": ends}, "content": ""}));
        }
        if self.space_prefix == SpacePrefix::Each {
            steps.push(json!({"type": "Prepend", "prepend": "▁"}));
        }
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
        json!({"type": "Sequence", "normalizers": steps})
    }
}

/// "▁" to spaces, byte pieces to text, and the space before the text away.
pub fn decoder(space_prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if space_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// Control tokens are found in the text as it is, the user's own after normalization.
pub fn added_tokens(pieces: &[&str], kind_of: impl Fn(usize) -> i32) -> Vec<AddedToken> {
    let token = |(id, text): (usize, &&str)| match kind_of(id) {
        CONTROL | UNKNOWN => Some(AddedToken::from(*text, true).normalized(false)),
        USER_DEFINED => Some(AddedToken::from(*text, false).normalized(true)),
        _ => None,
    };
    pieces.iter().enumerate().filter_map(token).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = 0u32;
        for i in 0..3 {
            word = word << 8 | u32::from(group.get(i).copied().unwrap_or(0));
        }
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i <= group.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|t| super::base64(t.as_bytes())), coded);
    }
}
