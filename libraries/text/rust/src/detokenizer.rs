//! Ids to text piece by piece, whole characters only, in time linear in the number of ids.

use crate::tokenizer::Tokenizer;
use crate::Result;

/// A character has at most four bytes, each at worst a token of its own: of this many pending
/// tokens all but the last three are decided.
const MAX_PENDING: usize = 8;
const UNDECIDED: usize = 3;

/// The text of a token depends on its neighbours (a leading space that only the first word lacks,
/// bytes of one character), so each step decodes the pending tokens behind the ones emitted last,
/// and emits what they add.
pub struct Detokenizer {
    skip_special: bool,
    before: Vec<u32>, // emitted last: where the pending ones follow on
    before_text: String,
    pending: Vec<u32>,
}

impl Detokenizer {
    pub fn new(skip_special: bool) -> Self {
        Self { skip_special, before: Vec::new(), before_text: String::new(), pending: Vec::new() }
    }

    pub fn add(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        if !tokenizer.has_text(id, self.skip_special) {
            return Ok(String::new());
        }
        self.pending.push(id);
        let (all, text) = self.new_text(tokenizer, self.pending.len())?;
        if !all.ends_with('\u{fffd}') {
            return self.emit(tokenizer, self.pending.len(), text);
        }
        // A token may end one character and begin the next: the whole ones need not wait, and a run
        // of such tokens is never cut within a character.
        let whole = text.trim_end_matches('\u{fffd}').len();
        if whole > 0 {
            let held = text[whole..].to_owned();
            let text = self.emit(tokenizer, self.pending.len(), text[..whole].to_owned())?;
            if let Some(said) = self.before_text.strip_suffix(&held) {
                self.before_text.truncate(said.len());
            }
            return Ok(text);
        }
        if self.pending.len() < MAX_PENDING {
            return Ok(String::new());
        }
        let decided = self.pending.len() - UNDECIDED;
        let (_, text) = self.new_text(tokenizer, decided)?;
        self.emit(tokenizer, decided, text)
    }

    /// What is left at the end, half characters as U+FFFD.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let (_, text) = self.new_text(tokenizer, self.pending.len())?;
        self.emit(tokenizer, self.pending.len(), text)
    }

    // The text of the emitted and the first `count` pending tokens, and what the latter add.
    fn new_text(&self, tokenizer: &Tokenizer, count: usize) -> Result<(String, String)> {
        let ids = [&self.before[..], &self.pending[..count]].concat();
        let all = tokenizer.decode(&ids, self.skip_special)?;
        let text = match all.strip_prefix(&self.before_text) {
            Some(text) => text.to_owned(),
            // A run of bytes that turned out to be no text: it does not change what was emitted.
            None => tokenizer.decode(&self.pending[..count], self.skip_special)?,
        };
        Ok((all, text))
    }

    fn emit(&mut self, tokenizer: &Tokenizer, count: usize, text: String) -> Result<String> {
        // Tokens without a text of their own (a stripped space) stay part of what stands before.
        if !text.is_empty() || self.before.len() >= MAX_PENDING {
            self.before.clear();
        }
        self.before.extend(self.pending.drain(..count));
        self.before_text = tokenizer.decode(&self.before, self.skip_special)?;
        Ok(text)
    }
}
