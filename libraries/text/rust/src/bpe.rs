//! Byte-pair encoding with the behaviour of `tokenizers::models::BPE`, and of SentencePiece's BPE,
//! whose merges follow from the scores of the pieces, over a compact store: that crate's model
//! needs half a second and 185 MB for Gemma's vocabulary.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{json, Value};
use tokenizers::Token;

use crate::vocabulary::Vocabulary;

const NONE: u32 = u32::MAX;

/// What the merge of two neighbours costs; the lowest rank merges first, the leftmost of equals.
pub enum Ranking {
    Pairs(PairTable),
    /// Rank by id of the merged piece; `u32::MAX`: never the result of a merge.
    Pieces(Vec<u32>),
}

impl Ranking {
    /// SentencePiece: the higher score merges first. `merges(id)`: piece `id` may be merged into.
    pub fn from_scores(scores: &[f32], merges: impl Fn(usize) -> bool) -> Self {
        let mut ids: Vec<u32> = (0..scores.len() as u32).filter(|&i| merges(i as usize)).collect();
        ids.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        let mut ranks = vec![NONE; scores.len()];
        let mut rank = 0;
        for i in 0..ids.len() {
            if i > 0 && scores[ids[i] as usize] != scores[ids[i - 1] as usize] {
                rank = i as u32;
            }
            ranks[ids[i] as usize] = rank;
        }
        Ranking::Pieces(ranks)
    }
}

/// (left id, right id) -> (rank, merged id): rows by left id, each sorted by right id.
pub struct PairTable {
    rows: Vec<u32>,
    merges: Vec<Merge>,
}

struct Merge {
    right: u32,
    rank: u32,
    merged: u32,
}

impl PairTable {
    /// `merges` in the order of their ranks.
    pub fn new<'a>(
        vocabulary: &Vocabulary,
        continuing_prefix: &str,
        merges: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut found = Vec::with_capacity(merges.len());
        let mut text = Vec::new();
        for (rank, (left, right)) in merges.enumerate() {
            let id = |piece: &[u8]| {
                vocabulary.find(piece).ok_or_else(|| {
                    let piece = String::from_utf8_lossy(piece);
                    format!("merge {rank} ('{left} {right}'): '{piece}' is not in the vocabulary")
                })
            };
            text.clear();
            text.extend_from_slice(left.as_bytes());
            text.extend_from_slice(
                right.strip_prefix(continuing_prefix).unwrap_or(right).as_bytes(),
            );
            found.push((id(left.as_bytes())?, id(right.as_bytes())?, rank as u32, id(&text)?));
        }
        // A pair given twice has its last rank, as in a map.
        found.sort_unstable_by_key(|&(left, right, rank, _)| (left, right, Reverse(rank)));
        found.dedup_by_key(|&mut (left, right, _, _)| (left, right));
        let mut rows = vec![0u32; vocabulary.len() + 1];
        for &(left, ..) in &found {
            rows[left as usize + 1] += 1;
        }
        for i in 1..rows.len() {
            rows[i] += rows[i - 1];
        }
        let merges =
            found.iter().map(|&(_, right, rank, merged)| Merge { right, rank, merged }).collect();
        Ok(Self { rows, merges })
    }

    /// (left, right) in the order of their ranks.
    fn pairs(&self) -> Vec<(u32, u32)> {
        let mut all = Vec::with_capacity(self.merges.len());
        for left in 0..self.rows.len() - 1 {
            let row = &self.merges[self.rows[left] as usize..self.rows[left + 1] as usize];
            all.extend(row.iter().map(|m| (m.rank, left as u32, m.right)));
        }
        all.sort_unstable();
        all.into_iter().map(|(_, left, right)| (left, right)).collect()
    }

    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let left = left as usize;
        if left + 1 >= self.rows.len() {
            return None;
        }
        let row = &self.merges[self.rows[left] as usize..self.rows[left + 1] as usize];
        let merge = &row[row.binary_search_by_key(&right, |m| m.right).ok()?];
        Some((merge.rank, merge.merged))
    }
}

pub struct Bpe {
    pub vocabulary: Vocabulary,
    pub ranking: Ranking,
    pub unk: Option<u32>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    /// A text that is a piece as a whole is that piece, whatever the merges say.
    pub ignore_merges: bool,
    pub continuing_prefix: String,
    pub word_suffix: String,
}

// A run of bytes of the text, in a doubly linked list; merged away when its id and length are gone.
struct Symbol {
    id: u32,
    start: usize,
    end: usize,
    prev: u32,
    next: u32,
}

// Ordered by rank, then by place.
type Candidate = Reverse<(u32, u32, usize, usize, u32)>; // rank, left symbol, middle, end, merged id

impl Bpe {
    pub fn new(vocabulary: Vocabulary, ranking: Ranking) -> Self {
        Self {
            vocabulary,
            ranking,
            unk: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            continuing_prefix: String::new(),
            word_suffix: String::new(),
        }
    }

    /// The "model" of a tokenizer.json.
    pub fn to_json(&self) -> Value {
        let piece = |id| self.vocabulary.piece(id);
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let pairs = match &self.ranking {
            Ranking::Pairs(table) => table.pairs(),
            Ranking::Pieces(ranks) => self.pairs_by_piece(ranks),
        };
        let merges: Vec<_> = pairs.into_iter().map(|(a, b)| json!([piece(a), piece(b)])).collect();
        json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": self.unk.map(piece),
            "continuing_subword_prefix": optional(&self.continuing_prefix),
            "end_of_word_suffix": optional(&self.word_suffix),
            "fuse_unk": self.fuse_unk,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": self.ignore_merges,
            "vocab": self.vocabulary.to_json(),
            "merges": merges,
        })
    }

    // What ranks by the merged piece, as pairs: every way to make a piece of two.
    fn pairs_by_piece(&self, ranks: &[u32]) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        for (id, text) in self.vocabulary.iter() {
            let rank = ranks[id as usize];
            if rank == NONE || self.vocabulary.find(text.as_bytes()) != Some(id) {
                continue;
            }
            for (middle, _) in text.char_indices().skip(1) {
                let (left, right) = text.as_bytes().split_at(middle);
                let found = (self.vocabulary.find(left), self.vocabulary.find(right));
                if let (Some(left), Some(right)) = found {
                    all.push((rank, id, left, right));
                }
            }
        }
        all.sort_unstable();
        all.into_iter().map(|(_, _, left, right)| (left, right)).collect()
    }

    pub fn tokenize(&self, text: &str) -> Vec<Token> {
        if self.ignore_merges {
            if let Some(id) = self.vocabulary.find(text.as_bytes()) {
                return vec![Token::new(id, text.to_owned(), (0, text.len()))];
            }
        }
        let mut symbols = match self.ranking {
            Ranking::Pairs(_) => self.known_symbols(text),
            Ranking::Pieces(_) => self.characters(text),
        };
        self.merge(text.as_bytes(), &mut symbols);
        let mut tokens = Vec::new();
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = &symbols[at as usize];
            self.emit(text, symbol, &mut tokens);
            at = symbol.next;
        }
        tokens
    }

    // SentencePiece: characters merge by the text that they make, known or not.
    fn characters(&self, text: &str) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let id = self.vocabulary.find(&text.as_bytes()[start..end]).unwrap_or(NONE);
            push(&mut symbols, id, start, end);
        }
        symbols
    }

    // tokenizers: a character that is no piece becomes bytes or the unknown token before merging.
    fn known_symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut affixed = String::new();
        let mut open_unk = false; // the last symbol is an unknown token that may still grow
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let mut piece = &text[start..end];
            let prefix = if start > 0 { self.continuing_prefix.as_str() } else { "" };
            let suffix = if end == text.len() { self.word_suffix.as_str() } else { "" };
            if !prefix.is_empty() || !suffix.is_empty() {
                affixed.clear();
                affixed.extend([prefix, piece, suffix]);
                piece = &affixed;
            }
            if let Some(id) = self.vocabulary.find(piece.as_bytes()) {
                push(&mut symbols, id, start, end);
                open_unk = false;
            } else if let Some(bytes) = self.bytes(piece.as_bytes()) {
                // An affix has no place of its own in the text.
                for (i, id) in bytes.into_iter().enumerate() {
                    push(&mut symbols, id, (start + i).min(end), (start + i + 1).min(end));
                }
                open_unk = false;
            } else if let Some(unk) = self.unk {
                match symbols.last_mut() {
                    Some(last) if open_unk && self.fuse_unk => last.end = end,
                    _ => push(&mut symbols, unk, start, end),
                }
                open_unk = true;
            }
        }
        symbols
    }

    fn bytes(&self, piece: &[u8]) -> Option<Vec<u32>> {
        if !self.byte_fallback {
            return None;
        }
        piece.iter().map(|b| self.vocabulary.find(format!("<0x{b:02X}>").as_bytes())).collect()
    }

    fn candidate(&self, text: &[u8], symbols: &[Symbol], left: u32) -> Option<Candidate> {
        let a = &symbols[left as usize];
        let b = symbols.get(a.next as usize)?;
        let (rank, merged) = match &self.ranking {
            Ranking::Pairs(table) => table.get(a.id, b.id)?,
            Ranking::Pieces(ranks) => {
                let id = self.vocabulary.find(&text[a.start..b.end])?;
                (ranks[id as usize], id)
            }
        };
        (rank != NONE).then_some(Reverse((rank, left, a.end, b.end, merged)))
    }

    fn merge(&self, text: &[u8], symbols: &mut [Symbol]) {
        let mut queue = BinaryHeap::with_capacity(symbols.len());
        for left in 1..symbols.len() as u32 {
            queue.extend(self.candidate(text, symbols, left - 1));
        }
        while let Some(Reverse((_, left, middle, end, merged))) = queue.pop() {
            let a = &symbols[left as usize];
            // Stale: one of the two has merged with another since.
            if a.id == NONE && a.start == a.end || a.end != middle || a.next == NONE {
                continue;
            }
            let right = a.next;
            let b = &mut symbols[right as usize];
            if b.end != end {
                continue;
            }
            let next = b.next;
            (b.id, b.start) = (NONE, b.end);
            if next != NONE {
                symbols[next as usize].prev = left;
            }
            let a = &mut symbols[left as usize];
            (a.id, a.end, a.next) = (merged, end, next);
            let prev = a.prev;
            if prev != NONE {
                queue.extend(self.candidate(text, symbols, prev));
            }
            queue.extend(self.candidate(text, symbols, left));
        }
    }

    fn emit(&self, text: &str, symbol: &Symbol, tokens: &mut Vec<Token>) {
        let (start, end) = (symbol.start, symbol.end);
        let token = |id: u32, start, end| {
            Token::new(id, self.vocabulary.piece(id).to_owned(), (start, end))
        };
        if symbol.id != NONE {
            tokens.push(token(symbol.id, start, end));
        } else if let Some(bytes) = self.bytes(&text.as_bytes()[start..end]) {
            tokens.extend(
                bytes.into_iter().enumerate().map(|(i, id)| token(id, start + i, start + i + 1)),
            );
        } else if let Some(unk) = self.unk {
            match tokens.last_mut() {
                Some(last) if self.fuse_unk && last.id == unk => last.offsets.1 = end,
                _ => tokens.push(token(unk, start, end)),
            }
        }
    }
}

fn push(symbols: &mut Vec<Symbol>, id: u32, start: usize, end: usize) {
    let at = symbols.len() as u32;
    if let Some(last) = symbols.last_mut() {
        last.next = at;
    }
    let prev = at.checked_sub(1).unwrap_or(NONE);
    symbols.push(Symbol { id, start, end, prev, next: NONE });
}
