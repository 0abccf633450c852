//! What a tokenizer file may do to a text: grow it by a factor, and search it with regular
//! expressions that backtrack.

use std::ffi::{c_int, c_ulong};
use std::sync::Once;

use serde_json::Value;

use crate::{base64, fail, Result};

/// Real normalizers grow a byte to three ("▁"), or to the 18 of a ligature, in a step or two.
const MAX_GROWTH: f64 = 4096.0;
const MAX_STEPS: usize = 200;

/// Refuses a normalizer or decoder whose steps together can grow a text beyond measure.
pub fn check_growth(part: &Value, what: &str) -> Result<()> {
    let mut growth = 1.0;
    let mut steps = 0;
    walk(part, &mut growth, &mut steps);
    if growth > MAX_GROWTH || steps > MAX_STEPS {
        return fail(format!("{what}: its {steps} steps may grow a text {growth:.0}-fold"));
    }
    Ok(())
}

fn walk(part: &Value, growth: &mut f64, steps: &mut usize) {
    *steps += 1;
    let len = |key: &str| part.get(key).and_then(Value::as_str).map_or(0, str::len) as f64;
    *growth *= match part.get("type").and_then(Value::as_str) {
        Some("Replace") => len("content").max(1.0),
        Some("Prepend") => (len("prepend") / 4.0).max(1.0),
        Some("Precompiled") => {
            let map = part.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or("");
            longest_replacement(&base64::decode(map))
        }
        Some("ByteLevel") => 2.0,
        _ => 1.0,
    };
    for list in ["normalizers", "decoders"] {
        for step in part.get(list).and_then(Value::as_array).into_iter().flatten() {
            walk(step, growth, steps);
        }
    }
}

// A character map is the length of its trie, the trie, and texts that each end with a nul; a
// quarter of a text's bytes, since what it replaces has some as well.
fn longest_replacement(map: &[u8]) -> f64 {
    let texts = map.split_at_checked(4).map_or(&[][..], |(len, rest)| {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
        rest.get(len..).unwrap_or(&[])
    });
    let longest = texts.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0);
    (longest as f64 / 4.0).max(1.0)
}

extern "C" {
    fn onig_set_retry_limit_in_match(limit: c_ulong) -> c_int;
    fn onig_set_retry_limit_in_search(limit: c_ulong) -> c_int;
}

/// A search that steps back more often than this is an error: a tenth of a second's work.
pub fn bound_regular_expressions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sets two numbers that searches started later read.
        unsafe {
            onig_set_retry_limit_in_match(10_000_000);
            onig_set_retry_limit_in_search(20_000_000);
        }
    });
}
