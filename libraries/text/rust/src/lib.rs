//! Tokenizers and chat templates behind a C ABI (abi.rs); the C++ face is in ../*.h.

mod abi;
mod bpe;
mod clock;
mod detokenizer;
mod generation;
mod gguf;
mod json;
mod model;
mod pre_tokenizers;
mod protobuf;
mod python;
mod sentencepiece;
mod template;
mod tokenizer;
mod unigram;
mod vocabulary;
mod vocabulary_files;

/// The message is one line, without the name of the file: that is the caller's.
type Result<T> = std::result::Result<T, String>;

fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(message.into())
}
