//! The model of a tokenizer: our own BPE or unigram, or one of the crate's (WordPiece, WordLevel).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::Token;

use crate::bpe::{Bpe, PairTable, Ranking};
use crate::unigram::Unigram;
use crate::vocabulary::Vocabulary;
use crate::{fail, Result};

pub enum Model {
    Bpe(Box<Bpe>),
    Unigram(Box<Unigram>),
    Other(ModelWrapper),
}

/// An id above this is no id but an attempt to make us allocate.
pub const MAX_ID: u32 = 1 << 24;

impl Model {
    // Ours, or the crate's model that has its own.
    fn vocabulary(&self) -> std::result::Result<&Vocabulary, &ModelWrapper> {
        match self {
            Model::Bpe(bpe) => Ok(&bpe.vocabulary),
            Model::Unigram(unigram) => Ok(&unigram.vocabulary),
            Model::Other(model) => Err(model),
        }
    }

    /// The "model" of a tokenizer.json.
    pub fn from_json(json: &RawValue) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: Option<Cow<'a, str>>,
            merges: Option<IgnoredAny>,
            dropout: Option<f32>,
        }
        let head: Head = serde_json::from_str(json.get()).map_err(|e| format!("model: {e}"))?;
        let is_bpe = match head.kind.as_deref() {
            Some(kind) => kind == "BPE",
            None => head.merges.is_some(), // files of old versions do not name it
        };
        if is_bpe && head.dropout.unwrap_or(0.0) == 0.0 {
            let file: BpeFile =
                serde_json::from_str(json.get()).map_err(|e| format!("model: {e}"))?;
            return Ok(Model::Bpe(Box::new(file.build()?)));
        }
        if head.kind.as_deref() == Some("Unigram") {
            let file: UnigramFile =
                serde_json::from_str(json.get()).map_err(|e| format!("model: {e}"))?;
            return Ok(Model::Unigram(Box::new(file.build()?)));
        }
        serde_json::from_str(json.get()).map(Model::Other).map_err(|e| format!("model: {e}"))
    }

    /// The "model" of a tokenizer.json.
    pub fn to_json(&self) -> Result<Value> {
        match self {
            Model::Bpe(bpe) => Ok(bpe.to_json()),
            Model::Unigram(unigram) => Ok(unigram.to_json()),
            Model::Other(model) => serde_json::to_value(model).map_err(|e| e.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct BpeFile<'a> {
    #[serde(borrow)]
    vocab: Entries<'a>,
    #[serde(borrow)]
    merges: Merges<'a>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

impl BpeFile<'_> {
    fn build(self) -> Result<Bpe> {
        let vocabulary = self.vocab.build()?;
        let prefix = self.continuing_subword_prefix.unwrap_or_default();
        let pairs = self.merges.0.iter().map(|(left, right)| (left.as_ref(), right.as_ref()));
        let table = PairTable::new(&vocabulary, &prefix, pairs)?;
        let mut bpe = Bpe::new(vocabulary, Ranking::Pairs(table));
        bpe.unk = self.unk_token.and_then(|unk| bpe.vocabulary.find(unk.as_bytes()));
        bpe.fuse_unk = self.fuse_unk;
        bpe.byte_fallback = self.byte_fallback;
        bpe.ignore_merges = self.ignore_merges;
        bpe.continuing_prefix = prefix;
        bpe.word_suffix = self.end_of_word_suffix.unwrap_or_default();
        Ok(bpe)
    }
}

#[derive(Deserialize)]
struct UnigramFile<'a> {
    unk_id: Option<u32>,
    #[serde(borrow)]
    vocab: Vec<(Text<'a>, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

impl UnigramFile<'_> {
    fn build(self) -> Result<Unigram> {
        let unk = match self.unk_id {
            Some(unk) if (unk as usize) < self.vocab.len() => unk,
            _ => return fail("model.unk_id: expected the id of a piece"),
        };
        let vocabulary = Vocabulary::new(self.vocab.iter().map(|(Text(piece), _)| piece.as_ref()))?;
        let scores = self.vocab.iter().map(|&(_, score)| score).collect();
        let mut unigram = Unigram::new(vocabulary, scores, unk, |_| true);
        unigram.byte_fallback = self.byte_fallback;
        Ok(unigram)
    }
}

/// {"piece": id, ...}, as vocab.json has it too.
pub struct Entries<'a>(Vec<(Cow<'a, str>, u32)>);

impl Entries<'_> {
    pub fn build(&self) -> Result<Vocabulary> {
        let largest = self.0.iter().map(|&(_, id)| id).max().unwrap_or(0);
        // Gaps are few in real files; in hostile ones they are memory.
        if largest > MAX_ID || largest as usize > 16 * self.0.len() + 65536 {
            return fail(format!("model.vocab: id {largest} with {} pieces", self.0.len()));
        }
        let mut pieces = vec![""; if self.0.is_empty() { 0 } else { largest as usize + 1 }];
        for (piece, id) in &self.0 {
            pieces[*id as usize] = piece;
        }
        Vocabulary::new(pieces.into_iter())
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> std::result::Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> std::result::Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
        }
        d.deserialize_str(V)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of pieces and ids")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(piece), id)) = map.next_entry()? {
                    entries.push((piece, id));
                }
                Ok(Entries(entries))
            }
        }
        d.deserialize_map(V)
    }
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// ["a b", ...], or [["a", "b"], ...] since pieces may hold spaces.
struct Merges<'a>(Vec<Pair<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Merges<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct All;
        struct One;
        impl<'de> DeserializeSeed<'de> for One {
            type Value = Pair<'de>;
            fn deserialize<D: Deserializer<'de>>(
                self,
                d: D,
            ) -> std::result::Result<Pair<'de>, D::Error> {
                d.deserialize_any(self)
            }
        }
        impl<'de> Visitor<'de> for One {
            type Value = Pair<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }
            fn visit_borrowed_str<E: serde::de::Error>(
                self,
                v: &'de str,
            ) -> std::result::Result<Pair<'de>, E> {
                let (left, right) = split_merge(v).map_err(E::custom)?;
                Ok((Cow::Borrowed(left), Cow::Borrowed(right)))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> std::result::Result<Pair<'de>, E> {
                let (left, right) = split_merge(v).map_err(E::custom)?;
                Ok((Cow::Owned(left.to_owned()), Cow::Owned(right.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Pair<'de>, A::Error> {
                let parts = (seq.next_element::<Text>()?, seq.next_element::<Text>()?);
                let (Some(Text(left)), Some(Text(right))) = parts else {
                    return Err(serde::de::Error::custom("a merge of fewer than two pieces"));
                };
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok((left, right)),
                    Some(_) => Err(serde::de::Error::custom("a merge of more than two pieces")),
                }
            }
        }
        impl<'de> Visitor<'de> for All {
            type Value = Merges<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Merges<'de>, A::Error> {
                let mut merges = Vec::new();
                while let Some(merge) = seq.next_element_seed(One)? {
                    merges.push(merge);
                }
                Ok(Merges(merges))
            }
        }
        d.deserialize_seq(All)
    }
}

/// "left right"
pub fn split_merge(line: &str) -> Result<(&str, &str)> {
    match line.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left, right))
        }
        _ => fail(format!("a merge must be two pieces, found '{line}'")),
    }
}

impl tokenizers::Model for Model {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        match self {
            Model::Bpe(bpe) => Ok(bpe.tokenize(sequence)),
            Model::Unigram(unigram) => Ok(unigram.tokenize(sequence)),
            Model::Other(model) => model.tokenize(sequence),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.find(token.as_bytes()),
            Err(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self.vocabulary() {
            Ok(vocabulary) => Some(vocabulary.piece(id).to_owned()).filter(|p| !p.is_empty()),
            Err(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.iter().map(|(id, piece)| (piece.to_owned(), id)).collect(),
            Err(model) => model.get_vocab(),
        }
    }

    /// One more than the largest id: added tokens are numbered from here.
    fn get_vocab_size(&self) -> usize {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.len(),
            Err(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("the crate does not write: see to_json".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        TrainerWrapper::BpeTrainer(Default::default())
    }
}
