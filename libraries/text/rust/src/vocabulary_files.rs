//! Tokenizers from the files of older checkpoints: vocab.json + merges.txt, vocab.txt, and
//! tokenizer.model. What these files do not say (how text is normalized and split, what stands
//! around it) follows from the tokenizer's class, as in transformers' models/*/tokenization_*.py.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{json, Value};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::models::ModelWrapper;
use tokenizers::AddedToken;

use crate::bpe::{Bpe, PairTable, Ranking};
use crate::model::{split_merge, Entries, Model, MAX_ID};
use crate::pre_tokenizers::{byte_level, gpt2_words, qwen2_words};
use crate::sentencepiece::{Kind, SentencePiece, SpacePrefix, CONTROL, UNKNOWN};
use crate::tokenizer::{Parts, Tokenizer};
use crate::{fail, Result};

/// What tokenizer_config.json and its kin say.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Config {
    class: String, // "LlamaTokenizerFast", may be empty
    special_tokens: HashMap<String, String>,
    flags: HashMap<String, bool>,
    added_tokens: Vec<AddedToken>,
    special: Vec<AddedToken>,
}

pub type Special = (u32, String);

impl Config {
    fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.flags.get(name).copied().unwrap_or(otherwise)
    }

    fn is_class(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.class.starts_with(name))
    }

    fn name(&self, key: &str, otherwise: &str) -> String {
        self.special_tokens.get(key).map_or(otherwise, String::as_str).to_owned()
    }

    // The tokens before and after a text, where the flags ask for them.
    fn template(&self, bos: Option<Special>, add_bos: bool, eos: Option<Special>, add_eos: bool) -> Value {
        let before = bos.filter(|_| self.flag("add_bos_token", add_bos));
        let after = eos.filter(|_| self.flag("add_eos_token", add_eos));
        template(before.as_slice(), after.as_slice())
    }

    /// Adds the tokens that the configuration lists, and of the special ones those that are not
    /// added tokens yet.
    pub fn add_to(self, tokenizer: &mut Tokenizer) -> Result<()> {
        tokenizer.add_tokens(self.added_tokens)?;
        let special = self.special.into_iter();
        tokenizer.add_tokens(special.filter(|token| !tokenizer.is_added(&token.content)).collect())
    }
}

/// vocab.json and merges.txt.
pub fn byte_level_bpe(vocab: &str, merges: &str, config: &Config) -> Result<Tokenizer> {
    let entries: Entries = serde_json::from_str(vocab).map_err(|e| format!("vocab: {e}"))?;
    let vocabulary = entries.build()?;
    let mut pairs = Vec::new();
    for (i, line) in merges.lines().enumerate() {
        if line.starts_with("#version") || line.trim().is_empty() {
            continue;
        }
        pairs.push(split_merge(line).map_err(|e| format!("merges, line {}: {e}", i + 1))?);
    }
    let table =
        PairTable::new(&vocabulary, "", pairs.into_iter()).map_err(|e| format!("merges: {e}"))?;
    let mut bpe = Bpe::new(vocabulary, Ranking::Pairs(table));
    let find = |text: String| Some((bpe.vocabulary.find(text.as_bytes())?, text));
    let bos = find(config.name("bos_token", ""));
    let eos = find(config.name("eos_token", ""));

    let prefix_space = config.flag("add_prefix_space", false);
    let mut parts = Parts {
        pre_tokenizer: byte_level(prefix_space, true),
        decoder: byte_level(true, true),
        ..Parts::default()
    };
    if config.is_class(&["CLIP"]) {
        let text = |key, otherwise| config.name(key, otherwise);
        let bos = find(text("bos_token", "<|startoftext|>"));
        let eos = find(text("eos_token", "<|endoftext|>"));
        let unk = find(text("unk_token", "<|endoftext|>"));
        parts.normalizer = json!({"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]});
        parts.pre_tokenizer = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex":
                r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"}},
            byte_level(false, true),
        ]});
        parts.post_processor = pair_processor(Joint::Roberta { trim: false, prefix_space: false }, bos, eos)?;
        bpe.word_suffix = "</w>".to_owned();
        bpe.unk = unk.map(|(id, _)| id);
        parts.decoder = json!({"type": "Sequence", "decoders": [
            byte_level(true, true),
            {"type": "Replace", "pattern": {"String": "</w>"}, "content": " "},
            {"type": "Strip", "content": " ", "start": 0, "stop": 1},
        ]});
    } else if config.is_class(&["Qwen2", "Qwen3"]) {
        parts.normalizer = json!({"type": "NFC"});
        parts.pre_tokenizer = split_then_bytes(&qwen2_words(), prefix_space);
        parts.post_processor = config.template(bos, false, eos, false);
    } else if config.is_class(&["Roberta", "Bart", "Longformer", "LED", "MPNet", "Mvp", "BlenderbotT"]) {
        let cls = find(config.name("cls_token", "<s>"));
        let sep = find(config.name("sep_token", "</s>"));
        let trim = config.flag("trim_offsets", true);
        parts.post_processor = pair_processor(Joint::Roberta { trim, prefix_space }, cls, sep)?;
    } else {
        if !prefix_space {
            parts.pre_tokenizer = split_then_bytes(gpt2_words(), false);
        }
        parts.post_processor = config.template(bos, false, eos, false);
    }
    Tokenizer::from_parts(Model::Bpe(Box::new(bpe)), parts)
}

fn split_then_bytes(words: &str, prefix_space: bool) -> Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false},
        byte_level(prefix_space, false),
    ]})
}

/// vocab.txt: a piece a line.
pub fn wordpiece(vocab: &str, config: &Config) -> Result<Tokenizer> {
    let lines: Vec<String> = vocab.lines().map(|line| line.trim_end().to_owned()).collect();
    let special = |key: &str, otherwise: &str| {
        let text = config.name(key, otherwise);
        lines.iter().position(|line| *line == text).map(|id| (id as u32, text))
    };
    let names = [
        ("unk_token", "[UNK]"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("pad_token", "[PAD]"),
        ("mask_token", "[MASK]"),
    ];
    let [unk, cls, sep, pad, mask] = names.map(|(key, otherwise)| special(key, otherwise));
    let options = WordPieceOptions {
        lowercase: config.flag("do_lower_case", true),
        strip_accents: config.flags.get("strip_accents").copied(),
        chinese: config.flag("tokenize_chinese_chars", true),
        unk: unk.clone(),
        special: [unk, cls.clone(), sep.clone(), pad, mask].into_iter().flatten().collect(),
    };
    wordpiece_tokenizer(lines, options, pair_processor(Joint::Bert, cls, sep)?)
}

pub struct WordPieceOptions {
    pub lowercase: bool,
    pub strip_accents: Option<bool>, // None: as `lowercase`
    pub chinese: bool,
    pub unk: Option<Special>,
    pub special: Vec<Special>,
}

/// Pieces inside of a word start with "##".
pub fn wordpiece_tokenizer(
    pieces: Vec<String>,
    options: WordPieceOptions,
    post_processor: Value,
) -> Result<Tokenizer> {
    if pieces.is_empty() || pieces.len() > MAX_ID as usize {
        return fail(format!("a vocabulary of {} pieces", pieces.len()));
    }
    let Some((_, unk)) = options.unk else {
        return fail("a WordPiece vocabulary needs an unknown token, '[UNK]'");
    };
    let vocab: ahash::AHashMap<String, u32> =
        pieces.into_iter().enumerate().map(|(id, piece)| (piece, id as u32)).collect();
    let model = WordPiece::builder()
        .vocab(vocab)
        .unk_token(unk)
        .build()
        .map_err(|e| format!("WordPiece: {e}"))?;
    let added = options.special.into_iter().map(|(_, text)| AddedToken::from(text, true));
    let parts = Parts {
        added_tokens: added.collect(),
        normalizer: json!({"type": "BertNormalizer", "clean_text": true,
                           "handle_chinese_chars": options.chinese,
                           "strip_accents": options.strip_accents,
                           "lowercase": options.lowercase}),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        post_processor,
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
    };
    Tokenizer::from_parts(Model::Other(ModelWrapper::WordPiece(model)), parts)
}

/// tokenizer.model, spiece.model, ...
pub fn sentencepiece(file: &[u8], config: &Config) -> Result<Tokenizer> {
    let mut model = SentencePiece::read(file)?;
    if config.is_class(&["XLMRoberta", "Camembert"]) {
        return fairseq(model, config);
    }
    let special = |key: &str, id: Option<u32>| {
        let named = config.special_tokens.get(key);
        let found = named.and_then(|text| model.pieces.iter().position(|piece| piece == text));
        let id = found.map(|id| id as u32).or(id)?;
        Some((id, model.pieces[id as usize].to_owned()))
    };
    let bos = special("bos_token", model.bos);
    let eos = special("eos_token", model.eos);
    let t5 = config.is_class(&["T5", "MT5", "UMT5"]);
    let add_bos = model.kind == Kind::Bpe && !t5;
    let post_processor = config.template(bos, add_bos, eos, t5);
    if model.space_prefix != SpacePrefix::None && !config.flag("legacy", true) {
        model.space_prefix = SpacePrefix::First;
    }
    model.tokenizer(post_processor)
}

// Models trained with fairseq have its four special tokens where SentencePiece has three.
fn fairseq(mut model: SentencePiece, config: &Config) -> Result<Tokenizer> {
    let front = ["<s>", "<pad>", "</s>", "<unk>"];
    let drop = model.pieces.len().min(3);
    model.pieces.splice(..drop, front);
    model.scores.splice(..drop, [0.0; 4]);
    model.types.splice(..drop, [CONTROL, CONTROL, CONTROL, UNKNOWN]);
    model.pieces.push("<mask>");
    model.scores.push(0.0);
    model.types.push(CONTROL);
    model.unk = Some(3);
    let special = |key: &str, otherwise: &str| {
        let text = config.name(key, otherwise);
        model.pieces.iter().position(|piece| *piece == text).map(|id| (id as u32, text))
    };
    let (cls, sep) = (special("cls_token", "<s>"), special("sep_token", "</s>"));
    let joint = Joint::Roberta { trim: false, prefix_space: false };
    model.tokenizer(pair_processor(joint, cls, sep)?)
}

/// [cls] text [sep], and how pairs are joined.
pub enum Joint {
    Bert,
    /// With two [sep] between. Byte-level places may be trimmed by the spaces at their ends.
    Roberta { trim: bool, prefix_space: bool },
}

pub fn pair_processor(joint: Joint, cls: Option<Special>, sep: Option<Special>) -> Result<Value> {
    let (Some((cls_id, cls)), Some((sep_id, sep))) = (cls, sep) else {
        return fail("the tokens that start and end a text are not in the vocabulary");
    };
    Ok(match joint {
        Joint::Bert => {
            json!({"type": "BertProcessing", "cls": [cls, cls_id], "sep": [sep, sep_id]})
        }
        Joint::Roberta { trim, prefix_space } => {
            json!({"type": "RobertaProcessing", "cls": [cls, cls_id], "sep": [sep, sep_id],
                   "trim_offsets": trim, "add_prefix_space": prefix_space})
        }
    })
}

/// The post-processor that puts `before` and `after` around a text.
pub fn template(before: &[Special], after: &[Special]) -> Value {
    if before.is_empty() && after.is_empty() {
        return Value::Null;
    }
    let special = |type_id: u32| {
        move |(_, piece): &Special| json!({"SpecialToken": {"id": piece, "type_id": type_id}})
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
