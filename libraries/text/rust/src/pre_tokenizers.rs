//! The splitting of text into words by the names of GGUF's "tokenizer.ggml.pre". The expressions
//! are those of each model's own tokenizer.json, or where that is not known, of llama.cpp
//! (src/llama-vocab.cpp), which owns the names.

use serde_json::{json, Value};

use crate::{fail, Result};

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CJK: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const PUNCTUATED: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"##;
const SENTENCES: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const CASED: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

// The shape most byte-level models share: contractions, words with one leading sign, digits in
// groups, other signs, line ends, spaces.
fn words(digits: &str) -> String {
    format!(
        r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

// The same with words parted at the change from lower to upper case.
fn cased_words(contractions: &str, digits: &str) -> String {
    let upper = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}";
    let lower = r"\p{Ll}\p{Lm}\p{Lo}\p{M}";
    format!(
        r"[^\r\n\p{{L}}\p{{N}}]?[{upper}]*[{lower}]+{contractions}|[^\r\n\p{{L}}\p{{N}}]?[{upper}]+[{lower}]*{contractions}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

fn kimi() -> String {
    let upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]";
    let lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]";
    format!(
        r"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

/// The words of GPT-2 and its many heirs.
pub fn gpt2_words() -> &'static str {
    GPT2
}

pub fn qwen2_words() -> String {
    words(r"\p{N}")
}

/// How a byte-level BPE of a GGUF file treats text.
pub struct PreTokenizer {
    pub expressions: Vec<String>, // each splits what the ones before have left
    pub byte_level: bool,
    pub ignore_merges: bool,
    pub add_bos: bool,
    pub add_sep: bool,
    pub nfc: bool,
}

/// `name` as in "tokenizer.ggml.pre".
pub fn by_name(name: &str) -> Result<PreTokenizer> {
    let one = |e: &str| vec![e.to_owned()];
    let optional = format!("{CONTRACTIONS}?");
    let expressions = match name {
        "" | "default" => vec![
            r"[\p{P}\$\+<=>\^~\|]+".to_owned(),
            GPT2.to_owned(),
            r"\p{N}+".to_owned(),
            "[0-9][0-9][0-9]".to_owned(),
        ],
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => {
            one(&words(r"\p{N}{1,3}"))
        }
        "jais-2" => one(&words(r"\p{N}{1,3}").replace(
            r"\s+(?!\S)|\s+",
            r"\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        )),
        "minicpm5" => vec![r"\p{N}{1,3}".to_owned(), words(r"\p{N}+")],
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan"
        | "solar-open" | "grok-2" => one(&words(r"\p{N}")),
        "laguna" => vec![r"[^\n]+|[\n]+".to_owned(), words(r"\p{N}")],
        "ufakzeka" => one(words(r"\p{N}").trim_start_matches(CONTRACTIONS).trim_start_matches('|')),
        "qwen35" => one(&format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => one(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        "seed-coder" => one(&format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )),
        "exaone-moe" => one(&format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        )),
        "deepseek-llm" => vec![
            r"[\r\n]".to_owned(),
            CASED.to_owned(),
            r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+".replace(r"\u3000", "\u{3000}"),
            r"\s+$".to_owned(),
            "[一-龥ࠀ-一가-\u{d7ff}]+".to_owned(),
            r"\p{N}+".to_owned(),
        ],
        "deepseek-coder" => vec![
            r"[\r\n]".to_owned(),
            r"\s?\p{L}+".to_owned(),
            r"\s?\p{P}+".to_owned(),
            "[一-龥ࠀ-一가-\u{d7ff}]+".to_owned(),
            r"\p{N}".to_owned(),
        ],
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => vec![
            r"\p{N}{1,3}".to_owned(),
            CJK.to_owned(),
            format!(r"{PUNCTUATED}[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ],
        "spark2_5" => vec![
            r"\p{N}{1,3}".to_owned(),
            CJK.to_owned(),
            format!(r"{PUNCTUATED}|[\r\n]|\s+(?!\S)|\s+"),
            r"\p{N}".to_owned(),
        ],
        "youtu" => vec![
            "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+".to_owned(),
            cased_words(&optional, r"\p{N}"),
        ],
        "falcon" => vec![
            r"[\p{P}\$\+<=>\^~\|`]+".to_owned(),
            GPT2.to_owned(),
            "[0-9][0-9][0-9]".to_owned(),
        ],
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone"
        | "minerva-7b" | "mellum2" => vec![r"\p{N}".to_owned(), GPT2.to_owned()],
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de"
        | "jina-v2-code" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert" | "roberta-bpe"
        | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" => one(GPT2),
        "poro-chat" | "bloom" | "gpt3-finnish" => one(SENTENCES),
        "viking" => vec![SENTENCES.to_owned(), r"\p{N}".to_owned()],
        "tekken" => one(&cased_words("", r"\p{N}")),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" | "granite-embed-multi-97m" => {
            one(&cased_words(&optional, r"\p{N}{1,3}"))
        }
        "tiny_aya" | "cohere2moe" => vec![
            r"\d{1,3}(?=(?:\d{3})*\b)".to_owned(),
            cased_words(&optional, r"\p{N}{1,3}"),
        ],
        "kimi-k2" => one(&kimi()),
        "superbpe" => vec![r"\p{N}+".to_owned(), r"(?=(\d{3})+(?!\d))".to_owned()],
        "afmoe" => vec![
            r"\p{Nd}{1,3}(?=(?:\p{Nd}{3})*+(?!\p{Nd}))".to_owned(),
            "[一-鿿㐀-䶿豈-﫿\u{3040}-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+".to_owned(),
            format!(r"{PUNCTUATED}[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ],
        "chameleon" => vec![
            "<sentinel:[0-9]+>".to_owned(),
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z".to_owned(),
            r"([\t\n]|    |  )".to_owned(),
            r"\p{N}".to_owned(),
            r"[\p{P}!-/:-@\[-`{-~]".to_owned(),
            GPT2.to_owned(),
        ],
        "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" => one(r"[^\n]+|[\n]+"),
        "whitespace" => one(r"\S+"),
        _ => {
            return fail(format!(
                "tokenizer.ggml.pre: '{name}' is not a known pre-tokenizer (as in llama.cpp: llama-bpe, qwen2, gpt-2, smollm, tekken, deepseek-v3, gpt-4o, ...)"
            ))
        }
    };
    let llama3 = matches!(
        name,
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" | "jina-v5-nano"
    );
    Ok(PreTokenizer {
        expressions,
        byte_level: !matches!(
            name,
            "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" | "whitespace"
        ),
        ignore_merges: llama3
            || matches!(name, "tekken" | "youtu" | "minicpm5" | "granite-embed-multi-97m"),
        add_bos: llama3 || matches!(name, "tekken" | "chameleon" | "gemma4"),
        add_sep: matches!(name, "jina-v1-en" | "jina-v2-code" | "roberta-bpe"),
        nfc: matches!(name, "qwen2" | "deepseek-r1-qwen" | "qwen35" | "stablelm2" | "olmo"),
    })
}

impl PreTokenizer {
    /// In the form of tokenizer.json.
    pub fn json(&self) -> Value {
        let mut steps: Vec<Value> = self
            .expressions
            .iter()
            .map(|e| {
                json!({"type": "Split", "pattern": {"Regex": e}, "behavior": "Isolated",
                       "invert": false})
            })
            .collect();
        if self.byte_level {
            steps.push(byte_level(false, false));
        }
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

pub fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
           "use_regex": use_regex})
}
