"""Makes tests/golden/text: what transformers, jinja2, tokenizers and sentencepiece say.

    python make_text_goldens.py                     # with transformers, tokenizers, sentencepiece
    python make_text_goldens.py OUTPUT FOLDER...    # cases for other folders with tokenizers

templates.json   chat templates and their renderings (templates/*.jinja in the style of known
                 families, and many one-line ones, a feature each)
NAME/            a tiny tokenizer in the files of its family, with cases.json: ids, places, texts
"""

import json
import pathlib
import shutil
import sys

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from text_golden_templates import LINES, MESSAGES, TEMPLATE_CASES

HERE = pathlib.Path(__file__).parent
OUT = HERE.parent / "golden" / "text"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

CORPUS = (
    "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs.\n"
    "How vexingly quick daft zebras jump! 1234567890 3.14159 1,000,000 don't can't we'll I've it's\n"
    "Der schnelle braune Fuchs springt über den faulen Hund; Größe, Straße, Füße.\n"
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.\n"
    "Съешь ещё этих мягких французских булок, да выпей чаю.\n"
    "いろはにほへと ちりぬるを 我が世誰ぞ 常ならむ 你好世界 안녕하세요\n"
    "def f(x):\n    return x ** 2  # comment\n\tif x: pass\n"
) * 20

STRINGS = [
    "",
    " ",
    "Hello world",
    "  two leading, three trailing   ",
    "multiple\n\n\nnewlines\n\r\n\ttabs\t\t",
    "don't can't WE'LL I've it's",
    "Größe über naïve déçu",
    "e\u0301 combining o\u0308\u0323 marks",
    "\ufb01 ligature \u2460 \uff21\uff22\uff23 fullwidth \u00bd",
    "你好，世界！日本語テキスト 안녕하세요",
    "Съешь ещё булок",
    "\U0001f642 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd",
    "def f(x):\n    return x**2  # note\n",
    "1234567890 3.14 1,000 0x1F",
    "a\u00a0b\u3000c\u200bd",
    "<s>special</s> in<mask> text <|im_start|>user<|im_end|><|endoftext|>",
    "[CLS] bracketed [MASK] [SEP]",
    "\x00\x07 control \x7f",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "x" * 70,
    "  a  b   c    d     e",
    "▁already ▁▁escaped",
]


def json_dump(value, file):
    """One line for each member of the outermost lists and objects."""
    dump = lambda v: json.dumps(v, ensure_ascii=False)
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, list) and any(isinstance(i, (dict, list, str)) for i in item):
                text = "[\n" + ",\n".join("  " + dump(i) for i in item) + "\n ]"
            else:
                text = dump(item)
            lines.append(f" {dump(key)}: {text}")
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    else:
        text = dump(value) + "\n"
    file.write_text(text, encoding="utf-8")


def added(content, **options):
    """A token as tokenizer_config.json has it."""
    form = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"__type": "AddedToken", "content": content} | form | options


class Pool:
    """Values that many cases share, written once."""

    def __init__(self):
        self.values = []

    def index(self, value):
        # By text: 1, 1.0 and True are equal to Python.
        texts = [json.dumps(v) for v in self.values]
        text = json.dumps(value)
        if text not in texts:
            self.values.append(value)
            return len(self.values) - 1
        return texts.index(text)


def templates():
    base = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    cases = []
    sources, conversations, arguments = Pool(), Pool(), Pool()
    for case in TEMPLATE_CASES + [
        {"name": line, "template": line, **extra} for line, extra in LINES
    ]:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, **SPECIAL)
        template = case["template"]
        if template.endswith(".jinja"):
            template = (HERE / "templates" / template).read_text(encoding="utf-8")
        tokenizer.chat_template = template
        messages = case.get("messages", MESSAGES)
        kwargs = case.get("kwargs", {})
        entry = {
            "name": case["name"],
            "template": sources.index(template),
            "messages": conversations.index(messages),
            "kwargs": arguments.index(kwargs),
        }
        try:
            entry["rendered"] = tokenizer.apply_chat_template(messages, tokenize=False, **kwargs)
        except Exception as e:
            entry["error"] = f"{type(e).__name__}: {e}"[:200]
        cases.append(entry)
    pools = {"templates": sources.values, "messages": conversations.values, "kwargs": arguments.values}
    json_dump({"special_tokens": SPECIAL, **pools, "cases": cases}, OUT / "templates.json")
    print(len(cases), "template cases,", sum("error" in c for c in cases), "of them errors")


def byte_places(text, offsets):
    bounds = [0]
    for c in text:
        bounds.append(bounds[-1] + len(c.encode("utf-8")))
    return [[bounds[a], bounds[b]] for a, b in offsets]


def fast_cases(tokenizer, name):
    """What a transformers tokenizer says."""
    cases = []
    for text in STRINGS:
        plain = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        special = tokenizer(text)["input_ids"]
        cases.append(
            {
                "text": text,
                "ids": plain["input_ids"],
                "ranges": byte_places(text, plain["offset_mapping"]),
                "special": special,
                "decoded": tokenizer.decode(special, clean_up_tokenization_spaces=False),
                "skipped": tokenizer.decode(
                    special, skip_special_tokens=True, clean_up_tokenization_spaces=False
                ),
            }
        )
    pair = tokenizer("one text", "and another")
    backend = tokenizer.backend_tokenizer.encode("one text", "and another")
    json_dump(
        {
            "cases": cases,
            "pair": {"ids": pair["input_ids"], "type_ids": backend.type_ids},
            "vocab_size": len(tokenizer),
        },
        OUT / name / "cases.json",
    )


def sentencepiece_cases(processor, name):
    """What the SentencePiece library says; it adds no special tokens of its own. Left out: special
    tokens in a text (to the library they are text), "▁" in a text (stripped when decoding), marks
    that the library composes by character and the crate by grapheme."""
    cases = []
    for text in STRINGS:
        if "<" in text or "▁" in text or "\u0323" in text:
            continue
        ids = processor.encode(text)
        # The library writes the unknown token as " ⁇ ", the crate as "<unk>".
        decoded = {} if processor.unk_id() in ids else {"decoded": processor.decode(ids)}
        cases.append({"text": text, "ids": ids} | decoded)
    json_dump({"cases": cases, "vocab_size": processor.get_piece_size()}, OUT / name / "cases.json")


def folder(name):
    path = OUT / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)


def byte_level(name, config, special, size=600, tokenizer=None, suffix=""):
    path = folder(name)
    if tokenizer is None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=suffix,
        show_progress=False,
    )
    train(tokenizer, trainer)
    tokenizer.model.save(str(path))
    json_dump(config, path / "tokenizer_config.json")
    fast_cases(AutoTokenizer.from_pretrained(path), name)
    return path


def clip():
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    byte_level(
        "clip", config, ["<|startoftext|>", "<|endoftext|>"], 900, tokenizer, "</w>"
    )


def wordpiece():
    path = folder("wordpiece")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(tokenizer, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    tokenizer.model.save(str(path))
    json_dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, path / "tokenizer_config.json")
    fast_cases(AutoTokenizer.from_pretrained(path), "wordpiece")


def train_sentencepiece(path, **options):
    corpus = path / "corpus.txt"
    corpus.write_text(CORPUS, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(path / "tokenizer"),
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
        **options,
    )
    corpus.unlink()
    (path / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(str(path / "tokenizer.model"))


def sentencepieces():
    llama = dict(
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<|im_start|>", "<|im_end|>"],
        split_digits=True,
        allow_whitespace_only_pieces=True,
    )
    path = folder("spm_bpe")
    sentencepiece_cases(train_sentencepiece(path, **llama), "spm_bpe")
    path = folder("spm_bpe_noprefix")
    model = train_sentencepiece(path, **(llama | {"add_dummy_prefix": False}))
    sentencepiece_cases(model, "spm_bpe_noprefix")
    path = folder("spm_unigram")
    sentencepiece_cases(
        train_sentencepiece(path, model_type="unigram", vocab_size=400, normalization_rule_name="nmt_nfkc"),
        "spm_unigram",
    )
    path = folder("spm_unigram_bytes")
    sentencepiece_cases(
        train_sentencepiece(
            path,
            model_type="unigram",
            vocab_size=600,
            byte_fallback=True,
            normalization_rule_name="identity",
        ),
        "spm_unigram_bytes",
    )


def tokenizer_json():
    """A tokenizer.json with a template post-processor, and added tokens of every kind."""
    path = folder("tokenizer_json")
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    from tokenizers import AddedToken, Regex

    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    train(
        tokenizer,
        trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [
            AddedToken("<mask>", lstrip=True, special=True),
            AddedToken("fox", single_word=True, normalized=True),
            AddedToken("<tool>", rstrip=True, normalized=False),
        ]
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<s> $A",
                pair="<s> $A <s>:1 $B:1",
                special_tokens=[("<s>", tokenizer.token_to_id("<s>"))],
            ),
        ]
    )
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": added("</s>"),
        "pad_token": "<pad>",
        "additional_special_tokens": ["<extra>"],
        "chat_template": [
            {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}{{ image_token }}"},
            {"name": "tool_use", "template": "{{ tools | tojson }}"},
        ],
        "image_token": "<image>",
    }
    json_dump(config, path / "tokenizer_config.json")
    json_dump({"eos_token_id": [701, 703]}, path / "generation_config.json")
    fast_cases(AutoTokenizer.from_pretrained(path), "tokenizer_json")


def other_folder(path):
    """A folder from elsewhere: a copy of its files, and its cases."""
    target = folder(path.name)
    for file in path.iterdir():
        if file.suffix in (".json", ".txt", ".model", ".jinja") and file.name != "golden.json":
            shutil.copyfile(file, target / file.name)
    fast_cases(PreTrainedTokenizerFast.from_pretrained(target), path.name)


if __name__ == "__main__":
    if len(sys.argv) > 2:  # OUTPUT FOLDER...
        OUT = pathlib.Path(sys.argv[1])
        for name in sys.argv[2:]:
            other_folder(pathlib.Path(name))
        sys.exit()
    OUT.mkdir(parents=True, exist_ok=True)
    templates()
    byte_level(
        "gpt2",
        {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
         "unk_token": "<|endoftext|>"},
        ["<|endoftext|>"],
    )
    byte_level(
        "qwen2",
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
         "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
        ["<|endoftext|>"],
    )
    byte_level(
        "roberta",
        {"tokenizer_class": "RobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
         "cls_token": "<s>", "sep_token": "</s>", "mask_token": added("<mask>", lstrip=True)},
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    clip()
    wordpiece()
    sentencepieces()
    tokenizer_json()
