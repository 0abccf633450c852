//! A tokenizer: the crate's pipeline (added tokens, normalizer, pre-tokenizer, post-processor,
//! decoder) around our `Model`.

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use tokenizers::{
    AddedToken, DecoderWrapper, Model as _, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

use crate::model::Model;
use crate::{limits, Result};

type Pipeline = TokenizerImpl<
    Model,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

pub struct Tokenizer {
    pipeline: Pipeline,
}

/// What stands around the model, each in the form of tokenizer.json; null: none.
#[derive(Default)]
pub struct Parts {
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub post_processor: Value,
    pub decoder: Value,
}

pub struct Encoding {
    pub ids: Vec<u32>,
    /// 0 in the first text, 1 in the second.
    pub type_ids: Vec<u32>,
    /// Byte ranges of the text it is in; a special token that was added has an empty one.
    pub offsets: Vec<(usize, usize)>,
}

impl Tokenizer {
    pub fn from_parts(model: Model, parts: Parts) -> Result<Self> {
        limits::check_growth(&parts.normalizer, "normalizer")?;
        limits::check_growth(&parts.decoder, "decoder")?;
        limits::bound_regular_expressions();
        let mut pipeline = Pipeline::new(model);
        if let Some(part) = read::<NormalizerWrapper>(parts.normalizer, "normalizer")? {
            pipeline.with_normalizer(Some(part)).map_err(|e| format!("normalizer: {e}"))?;
        }
        pipeline
            .with_pre_tokenizer(read::<PreTokenizerWrapper>(parts.pre_tokenizer, "pre_tokenizer")?);
        pipeline.with_post_processor(read::<PostProcessorWrapper>(
            parts.post_processor,
            "post_processor",
        )?);
        pipeline.with_decoder(read::<DecoderWrapper>(parts.decoder, "decoder")?);
        pipeline.add_tokens(parts.added_tokens).map_err(|e| format!("added_tokens: {e}"))?;
        Ok(Self { pipeline })
    }

    /// A tokenizer.json. Its truncation and padding are for batches of a trainer, and left out as
    /// transformers leaves them out.
    pub fn from_json(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct File<'a> {
            #[serde(default)]
            added_tokens: Vec<AddedToken>,
            #[serde(default)]
            normalizer: Value,
            #[serde(default)]
            pre_tokenizer: Value,
            #[serde(default)]
            post_processor: Value,
            #[serde(default)]
            decoder: Value,
            #[serde(borrow)]
            model: &'a RawValue,
        }
        let file: File = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let parts = Parts {
            added_tokens: file.added_tokens,
            normalizer: file.normalizer,
            pre_tokenizer: file.pre_tokenizer,
            post_processor: file.post_processor,
            decoder: file.decoder,
        };
        Self::from_parts(Model::from_json(file.model)?, parts)
    }

    /// The same as a tokenizer.json.
    pub fn to_json(&self) -> Result<String> {
        let all = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.pipeline.get_added_vocabulary(),
            "normalizer": self.pipeline.get_normalizer(),
            "pre_tokenizer": self.pipeline.get_pre_tokenizer(),
            "post_processor": self.pipeline.get_post_processor(),
            "decoder": self.pipeline.get_decoder(),
            "model": self.pipeline.get_model().to_json()?,
        });
        serde_json::to_string(&all).map_err(|e| e.to_string())
    }

    pub fn is_added(&self, token: &str) -> bool {
        self.pipeline.get_added_vocabulary().get_vocab().contains_key(token)
    }

    /// A token of another form than the one there replaces it.
    pub fn add_tokens(&mut self, tokens: Vec<AddedToken>) -> Result<()> {
        self.pipeline.add_tokens(tokens).map(|_| ()).map_err(|e| format!("added tokens: {e}"))
    }

    /// Ids only, the fast way.
    pub fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.pipeline.encode_fast(text, add_special);
        Ok(encoding.map_err(|e| format!("cannot encode: {e}"))?.get_ids().to_vec())
    }

    pub fn encode(&self, text: &str, pair: Option<&str>, add_special: bool) -> Result<Encoding> {
        let encoding = match pair {
            None => self.pipeline.encode(text, add_special),
            Some(pair) => self.pipeline.encode((text, pair), add_special),
        };
        let encoding = encoding.map_err(|e| format!("cannot encode: {e}"))?;
        Ok(Encoding {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
        })
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        // Some of the crate's decoders cannot take an empty text.
        if !ids.iter().any(|&id| self.has_text(id, skip_special)) {
            return Ok(String::new());
        }
        self.pipeline.decode(ids, skip_special).map_err(|e| format!("cannot decode: {e}"))
    }

    pub fn vocab_size(&self) -> usize {
        let added = self.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        let added = added.keys().max().map_or(0, |&id| id as usize + 1);
        self.pipeline.get_model().get_vocab_size().max(added)
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pipeline.token_to_id(token)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        let added = self.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        match added.get(&id) {
            Some(token) => Some(token.content.clone()),
            None => self.pipeline.get_model().id_to_token(id),
        }
    }

    /// Whether decoding does not drop the id.
    pub fn has_text(&self, id: u32, skip_special: bool) -> bool {
        !(skip_special && self.is_special(id)) && self.id_to_token(id).is_some()
    }

    pub fn is_special(&self, id: u32) -> bool {
        let added = self.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special)
    }
}

fn read<T: DeserializeOwned>(json: Value, what: &str) -> Result<Option<T>> {
    serde_json::from_value(json).map_err(|e| format!("{what}: {e}"))
}
