//! The C ABI, declared for C++ in ../../abi.h. No panic crosses it: each entry that runs code of
//! ours or of a crate is guarded, and gives 0, or 1 and a message of one line.

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::bounded::{self, Bounds};
use crate::detokenizer::Detokenizer;
use crate::gguf;
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::vocabulary_files::{byte_level_bpe, sentencepiece, wordpiece, Config};
use crate::{fail, Result};

/// Texts beyond this are refused before they are copied a dozen times.
const MAX_TEXT: usize = 256 << 20;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl Slice {
    /// SAFETY (of all readers): `data` points to `size` bytes, or `size` is 0.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    unsafe fn text<'a>(self, what: &str) -> Result<&'a str> {
        if self.size > MAX_TEXT {
            return fail(format!("{what} is larger than {MAX_TEXT} bytes"));
        }
        std::str::from_utf8(self.bytes())
            .map_err(|e| format!("{what} is not UTF-8 at byte {}", e.valid_up_to()))
    }
}

unsafe fn array<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

fn give<T>(mut items: Vec<T>) -> Buffer {
    items.shrink_to_fit();
    let buffer = Buffer {
        data: items.as_mut_ptr().cast(),
        size: items.len() * size_of::<T>(),
        capacity: items.capacity() * size_of::<T>(),
    };
    std::mem::forget(items);
    buffer
}

// Buffers hold u8 or u32: all of them are freed with the alignment of the latter, so bytes are
// given away in whole words.
fn give_text(text: String) -> Buffer {
    let size = text.len();
    let mut words = vec![0u32; size.div_ceil(4)];
    for (word, bytes) in words.iter_mut().zip(text.as_bytes().chunks(4)) {
        let mut all = [0; 4];
        all[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(all);
    }
    Buffer { size, ..give(words) }
}

/// Runs `f`; a panic becomes an error.
unsafe fn guard(error: *mut Buffer, f: impl FnOnce() -> Result<()>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        fail(format!("not possible: {}", text.unwrap_or("internal error")))
    });
    match result {
        Ok(()) => 0,
        Err(message) => {
            *error = give_text(message.replace(['\n', '\r'], " "));
            1
        }
    }
}

/// Panics are reported to the caller, not to stderr.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_text_free(buffer: Buffer) {
    if buffer.capacity > 0 {
        drop(Vec::<u32>::from_raw_parts(buffer.data.cast(), 0, buffer.capacity / 4));
    }
}

/// `format`: "tokenizer.json", "vocab.json" (with `merges`), "vocab.txt" or "tokenizer.model".
/// `config`: JSON of `vocabulary_files::Config`.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_from_file(
    format: Slice,
    file: Slice,
    merges: Slice,
    config: Slice,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    quiet_panics();
    guard(error, || {
        let config: Config =
            serde_json::from_str(config.text("config")?).map_err(|e| e.to_string())?;
        let format = format.text("format")?.to_owned();
        if file.size.max(merges.size) > MAX_TEXT {
            return fail(format!("larger than {MAX_TEXT} bytes"));
        }
        let (file, merges) = (file.bytes().to_vec(), merges.bytes().to_vec());
        let bounds = Bounds { seconds: 60, bytes: (256 << 20) + 64 * (file.len() + merges.len()) };
        let tokenizer = bounded::run(bounds, move || {
            let text = |bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|e| format!("no UTF-8 at byte {}", e.valid_up_to()))
            };
            let mut tokenizer = match format.as_str() {
                "tokenizer.json" => Tokenizer::from_json(text(&file)?)?,
                "vocab.json" => byte_level_bpe(text(&file)?, text(&merges)?, &config)?,
                "vocab.txt" => wordpiece(text(&file)?, &config)?,
                "tokenizer.model" => sentencepiece(&file, &config)?,
                other => return fail(format!("unknown format '{other}'")),
            };
            config.add_to(&mut tokenizer)?;
            Ok(tokenizer)
        })?;
        *out = Box::into_raw(Box::new(tokenizer));
        Ok(())
    })
}

#[repr(C)]
pub struct GgufArrays {
    tokens: *const Slice,
    num_tokens: usize,
    scores: *const f32,
    num_scores: usize,
    types: *const i32,
    num_types: usize,
    merges: *const Slice,
    num_merges: usize,
    charsmap: Slice,
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_from_gguf(
    options: Slice,
    arrays: *const GgufArrays,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    quiet_panics();
    guard(error, || {
        let options = serde_json::from_str(options.text("options")?).map_err(|e| e.to_string())?;
        let all = &*arrays;
        let strings = |data, size, what: &str| -> Result<Vec<&str>> {
            let text = |(i, s): (usize, &Slice)| s.text(&format!("tokenizer.ggml.{what}[{i}]"));
            array(data, size).iter().enumerate().map(text).collect()
        };
        let arrays = gguf::Arrays {
            tokens: strings(all.tokens, all.num_tokens, "tokens")?,
            scores: array(all.scores, all.num_scores),
            types: array(all.types, all.num_types),
            merges: strings(all.merges, all.num_merges, "merges")?,
            charsmap: all.charsmap.bytes(),
        };
        *out = Box::into_raw(Box::new(gguf::tokenizer(&options, &arrays)?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_delete(tokenizer: *mut Tokenizer) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(tokenizer))));
}

/// The whole of it as a tokenizer.json.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_to_json(
    tokenizer: *const Tokenizer,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *text = give_text((*tokenizer).to_json()?);
        Ok(())
    })
}

/// `ids`: u32.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_ids(
    tokenizer: *const Tokenizer,
    text: Slice,
    add_special: bool,
    ids: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *ids = give((*tokenizer).ids(text.text("the text")?, add_special)?);
        Ok(())
    })
}

/// `pair` may be null. `rows`: four u32 for each token: id, type id, and the byte range in its text.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Slice,
    pair: *const Slice,
    add_special: bool,
    rows: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let pair = pair.as_ref().map(|pair| pair.text("the second text")).transpose()?;
        let encoding = (*tokenizer).encode(text.text("the text")?, pair, add_special)?;
        let parts = encoding.ids.iter().zip(&encoding.type_ids).zip(&encoding.offsets);
        let flat = parts.flat_map(|((&id, &kind), &(a, b))| [id, kind, a as u32, b as u32]);
        *rows = give::<u32>(flat.collect());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    size: usize,
    skip_special: bool,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *text = give_text((*tokenizer).decode(array(ids, size), skip_special)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_vocab_size(tokenizer: *const Tokenizer) -> usize {
    (*tokenizer).vocab_size()
}

/// -1: there is none.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_token_to_id(
    tokenizer: *const Tokenizer,
    token: Slice,
) -> i64 {
    let find = || (*tokenizer).token_to_id(token.text("the token").ok()?);
    catch_unwind(AssertUnwindSafe(find)).ok().flatten().map_or(-1, i64::from)
}

/// 1 and no text: there is none.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_id_to_token(
    tokenizer: *const Tokenizer,
    id: u32,
    text: *mut Buffer,
) -> i32 {
    guard(text, || match (*tokenizer).id_to_token(id) {
        Some(piece) => {
            *text = give_text(piece);
            Ok(())
        }
        None => fail(""),
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_tokenizer_is_special(tokenizer: *const Tokenizer, id: u32) -> bool {
    (*tokenizer).is_special(id)
}

#[no_mangle]
pub extern "C" fn mlxcpp_detokenizer_new(skip_special: bool) -> *mut Detokenizer {
    Box::into_raw(Box::new(Detokenizer::new(skip_special)))
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_detokenizer_delete(detokenizer: *mut Detokenizer) {
    drop(Box::from_raw(detokenizer));
}

/// `id` below 0: the end.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_detokenizer_add(
    detokenizer: *mut Detokenizer,
    tokenizer: *const Tokenizer,
    id: i64,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *text = give_text(match u32::try_from(id) {
            Ok(id) => (*detokenizer).add(&*tokenizer, id)?,
            Err(_) => (*detokenizer).finish(&*tokenizer)?,
        });
        Ok(())
    })
}

/// `sources`: {name: template}; `special_tokens`: {name: text}; both as JSON.
#[no_mangle]
pub unsafe extern "C" fn mlxcpp_template_new(
    sources: Slice,
    special_tokens: Slice,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    quiet_panics();
    guard(error, || {
        let sources: BTreeMap<String, String> =
            serde_json::from_str(sources.text("sources")?).map_err(|e| e.to_string())?;
        let special_tokens = serde_json::from_str(special_tokens.text("special tokens")?)
            .map_err(|e| e.to_string())?;
        *out = Box::into_raw(Box::new(Template::new(sources, special_tokens)?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_template_delete(template: *mut Template) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(template))));
}

#[no_mangle]
pub unsafe extern "C" fn mlxcpp_template_render(
    template: *const Template,
    messages: Slice,
    context: Slice,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *text =
            give_text((*template).render(messages.text("messages")?, context.text("context")?)?);
        Ok(())
    })
}
