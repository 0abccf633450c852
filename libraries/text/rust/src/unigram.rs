//! The unigram model of SentencePiece (Kudo 2018, "Subword Regularization"), best path only, with
//! the behaviour of `tokenizers::models::Unigram`. That crate's trie of hash maps needs hundreds of
//! megabytes for a quarter of a million pieces; here prefixes are found in a sorted list.

use serde_json::{json, Value};
use tokenizers::Token;

use crate::vocabulary::Vocabulary;

const UNKNOWN_PENALTY: f64 = 10.0;

pub struct Unigram {
    pub vocabulary: Vocabulary,
    pub byte_fallback: bool,
    scores: Vec<f64>,
    unk: u32,
    unk_score: f64,
    sorted: Vec<u32>,        // ids of the usable pieces by their bytes
    by_first_byte: Vec<u32>, // where the pieces of each first byte start in `sorted`
}

#[derive(Clone, Copy)]
struct Node {
    score: f64,
    start: usize, // of the piece that ends here
    id: u32,
}

const NOWHERE: usize = usize::MAX;

impl Unigram {
    /// `scores` by id; `usable(id)`: whether text can become piece `id`.
    pub fn new(
        vocabulary: Vocabulary,
        scores: Vec<f64>,
        unk: u32,
        usable: impl Fn(usize) -> bool,
    ) -> Self {
        let mut sorted: Vec<u32> = vocabulary
            .iter()
            .map(|(id, _)| id)
            // Of equal pieces the vocabulary finds one.
            .filter(|&id| {
                usable(id as usize) && vocabulary.find(vocabulary.piece(id).as_bytes()) == Some(id)
            })
            .collect();
        let min = sorted.iter().map(|&id| scores[id as usize]).fold(f64::INFINITY, f64::min);
        sorted.sort_unstable_by_key(|&id| vocabulary.piece(id).as_bytes());
        let first = |id: u32| usize::from(vocabulary.piece(id).as_bytes()[0]);
        let by_first_byte =
            (0..=256).map(|byte| sorted.partition_point(|&id| first(id) < byte) as u32).collect();
        let unk_score = if min.is_finite() { min } else { 0.0 } - UNKNOWN_PENALTY;
        Self { vocabulary, byte_fallback: false, scores, unk, unk_score, sorted, by_first_byte }
    }

    /// The "model" of a tokenizer.json.
    pub fn to_json(&self) -> Value {
        let entry = |id: u32| json!([self.vocabulary.piece(id), self.scores[id as usize]]);
        let vocab: Vec<_> = (0..self.vocabulary.len() as u32).map(entry).collect();
        json!({
            "type": "Unigram",
            "unk_id": self.unk,
            "vocab": vocab,
            "byte_fallback": self.byte_fallback,
        })
    }

    pub fn tokenize(&self, text: &str) -> Vec<Token> {
        let ends = self.best_path(text);
        let mut spans: Vec<(u32, usize, usize)> = Vec::new(); // id, start, end; from the back
        let mut end = text.len();
        while end > 0 {
            let Node { start, id, .. } = ends[end];
            match spans.last_mut() {
                Some(last) if id == self.unk && last.0 == self.unk => last.1 = start,
                _ => spans.push((id, start, end)),
            }
            end = start;
        }
        let mut tokens = Vec::with_capacity(spans.len());
        for &(id, start, end) in spans.iter().rev() {
            match self.bytes(text, id, start, end) {
                Some(bytes) => tokens.extend(bytes),
                None => tokens.push(Token::new(id, text[start..end].to_owned(), (start, end))),
            }
        }
        tokens
    }

    // Viterbi: for each place the best piece that ends there.
    fn best_path(&self, text: &str) -> Vec<Node> {
        let mut ends = vec![Node { score: 0.0, start: NOWHERE, id: self.unk }; text.len() + 1];
        for (start, c) in text.char_indices() {
            let so_far = ends[start].score;
            let mut offer = |end: usize, id: u32, score: f64| {
                let node = &mut ends[end];
                if node.start == NOWHERE || so_far + score > node.score {
                    *node = Node { score: so_far + score, start, id };
                }
            };
            let mut single = false;
            self.for_each_prefix(&text.as_bytes()[start..], |len, id| {
                single |= len == c.len_utf8();
                offer(start + len, id, self.scores[id as usize]);
            });
            if !single {
                offer(start + c.len_utf8(), self.unk, self.unk_score);
            }
        }
        ends
    }

    // The pieces that `text` starts with, the shortest first. `sorted[low..high]` are those that
    // start with the bytes so far, the piece that is just these bytes at its front.
    fn for_each_prefix(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let Some(&first) = text.first() else { return };
        let bounds = &self.by_first_byte[usize::from(first)..];
        let (mut low, mut high) = (bounds[0] as usize, bounds[1] as usize);
        for len in 1..=text.len() {
            if low == high {
                return;
            }
            if self.piece(low).len() == len {
                found(len, self.sorted[low]);
                low += 1;
            }
            let Some(&next) = text.get(len) else { return };
            // All pieces left are longer than `len`.
            let range = &self.sorted[low..high];
            let byte = |&id: &u32| self.vocabulary.piece(id).as_bytes()[len];
            let below = range.partition_point(|id| byte(id) < next);
            let upto = below + range[below..].partition_point(|id| byte(id) == next);
            (low, high) = (low + below, low + upto);
        }
    }

    fn piece(&self, at: usize) -> &[u8] {
        self.vocabulary.piece(self.sorted[at]).as_bytes()
    }

    fn bytes(&self, text: &str, id: u32, start: usize, end: usize) -> Option<Vec<Token>> {
        if !self.byte_fallback || id != self.unk {
            return None;
        }
        let token = |byte: u8| {
            let piece = format!("<0x{byte:02X}>");
            let id = self.vocabulary.find(piece.as_bytes())?;
            Some(Token::new(id, piece, (start, end)))
        };
        text.as_bytes()[start..end].iter().map(|&byte| token(byte)).collect()
    }
}
