//! Cuts text into the words that byte pair encoding works inside of, by the rules that a model was trained with. Must
//! know those rules exactly or refuse: near rules give a model text it has never seen.

use regex_automata::Input;
use regex_automata::meta::Regex;

use super::TokenizerError;

/// The cutting rules of one `tokenizer.ggml.pre`.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    stages: Vec<Stage>,
    takes_whole_words: bool,
    adds_bos: bool,
}

impl Pretokenizer {
    /// The rules of this name in GGUF files.
    pub fn named(name: &str) -> Result<Self, TokenizerError> {
        let rules =
            rules(name).ok_or_else(|| TokenizerError::UnknownPretokenizer { name: name.into() })?;
        Ok(Self {
            stages: rules.stages.iter().map(Stage::new).collect(),
            takes_whole_words: rules.takes_whole_words,
            adds_bos: rules.adds_bos,
        })
    }

    /// Whether a word that is a token is taken as it stands, even where merging would not lead there.
    pub fn takes_whole_words(&self) -> bool {
        self.takes_whole_words
    }

    /// Whether such models expect a beginning-of-sequence token when their file does not say.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Calls `each` for the words of the text, in order and without a gap.
    pub fn split(&self, text: &str, mut each: impl FnMut(&str)) {
        split(&self.stages, text, &mut each);
    }
}

fn split(stages: &[Stage], text: &str, each: &mut dyn FnMut(&str)) {
    match stages.split_first() {
        None => each(text),
        Some((stage, later)) => stage.split(text, &mut |piece| split(later, piece, each)),
    }
}

/// One pass over the pieces of the pass before: each match becomes a piece, and so does each gap between matches.
#[derive(Debug)]
struct Stage {
    regex: Regex,
}

/// In a stage's regex, the pattern for [`Cut::ThenRuns`].
const RUNS: usize = 1;

impl Stage {
    fn new(cut: &Cut) -> Self {
        let regex = match cut {
            Cut::At(pattern) => Regex::new(pattern),
            Cut::ThenRuns(pattern) => Regex::new_many(&[pattern, r"\s+"]),
        };
        Self {
            regex: regex.expect("the patterns of this file are valid"),
        }
    }

    fn split(&self, text: &str, each: &mut dyn FnMut(&str)) {
        let mut done = 0;
        while let Some(found) = self.regex.find(Input::new(text).range(done..)) {
            let mut end = found.end();
            if found.pattern().as_usize() == RUNS && end < text.len() {
                // `\s+(?!\S)|\s+`: a run that ends before a word leaves its last character to the word, unless it is
                // the only one.
                let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
                if found.start() < end - last {
                    end -= last;
                }
            }
            if done < found.start() {
                each(&text[done..found.start()]);
            }
            each(&text[found.start()..end]);
            done = end;
        }
        if done < text.len() {
            each(&text[done..]);
        }
    }
}

struct Rules {
    stages: &'static [Cut],
    takes_whole_words: bool,
    adds_bos: bool,
}

/// What one stage looks for.
enum Cut {
    /// Matches of this pattern.
    At(&'static str),
    /// Matches of this pattern, else of `\s+(?!\S)|\s+`. The look-ahead is done by hand, so that every search is linear.
    ThenRuns(&'static str),
}

/// The names and rules are those of llama.cpp, except where it approximates the pattern of the model's own
/// `tokenizer.json`; then they are the model's.
fn rules(name: &str) -> Option<Rules> {
    let rules = |stages| Rules {
        stages,
        takes_whole_words: false,
        adds_bos: false,
    };
    Some(match name {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" => Rules {
            stages: LLAMA_3,
            takes_whole_words: true,
            adds_bos: true,
        },
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => rules(LLAMA_3),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "kormo" | "stablelm2" | "hunyuan"
        | "solar-open" | "grok-2" => rules(QWEN_2),
        "qwen35" => rules(QWEN_3_5),
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "a.x-4.0" | "mellum"
        | "exaone4" | "trillion" | "granite-docling" | "modern-bert" | "roberta-bpe" => {
            rules(GPT_2)
        }
        "refact" | "starcoder" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => rules(STARCODER),
        "deepseek-llm" => rules(DEEPSEEK_LLM),
        "deepseek-coder" => rules(DEEPSEEK_CODER),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => rules(DEEPSEEK_3),
        "falcon" => rules(FALCON),
        "tekken" => Rules {
            stages: TEKKEN,
            takes_whole_words: true,
            adds_bos: true,
        },
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => rules(GPT_4O),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => rules(BAILING),
        "seed-coder" => rules(SEED_CODER),
        "default" => rules(DEFAULT),
        _ => return None,
    })
}

const GPT_2_WORDS: Cut =
    Cut::ThenRuns(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");

const GPT_2: &[Cut] = &[GPT_2_WORDS];

const STARCODER: &[Cut] = &[Cut::At(r"\p{N}"), GPT_2_WORDS];

const FALCON: &[Cut] = &[
    Cut::At(r"[\p{P}$+<=>^~|`]+"),
    GPT_2_WORDS,
    Cut::At("[0-9][0-9][0-9]"),
];

const DEFAULT: &[Cut] = &[
    Cut::At(r"[\p{P}$+<=>\^~|]+"),
    GPT_2_WORDS,
    Cut::At(r"\p{N}+"),
    Cut::At("[0-9][0-9][0-9]"),
];

const LLAMA_3: &[Cut] = &[Cut::ThenRuns(concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
))];

const QWEN_2: &[Cut] = &[Cut::ThenRuns(concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
))];

const QWEN_3_5: &[Cut] = &[Cut::ThenRuns(concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
))];

const SEED_CODER: &[Cut] = &[Cut::ThenRuns(concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
))];

const BAILING: &[Cut] = &[Cut::ThenRuns(concat!(
    r"'[sSdDmMtT]|'[lL][lL]|'[vV][eE]|'[rR][eE]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
))];

const TEKKEN: &[Cut] = &[Cut::ThenRuns(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
))];

const GPT_4O: &[Cut] = &[Cut::ThenRuns(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
))];

const DEEPSEEK_LLM: &[Cut] = &[
    Cut::At(r"[\r\n]"),
    // The cased letters of the Unicode version that the vocabulary was trained with.
    Cut::At(concat!(
        r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}",
        r"\u{295}-\u{2AF}\u{370}-\u{373}\u{376}-\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}",
        r"\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}",
        r"\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}",
        r"\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}",
        r"\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}",
        r"\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}",
        r"\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}",
        r"\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}",
        r"\u{2145}-\u{2149}\u{214E}\u{2183}-\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}",
        r"\u{2CF2}-\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}",
        r"\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}",
        r"\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}",
        r"\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+",
    )),
    Cut::At(r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+"),
    Cut::At(r"\s+$"),
    Cut::At(r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+"),
    Cut::At(r"\p{N}+"),
];

const DEEPSEEK_CODER: &[Cut] = &[
    Cut::At(r"[\r\n]"),
    Cut::At(r"\s?\p{L}+"),
    Cut::At(r"\s?\p{P}+"),
    Cut::At(r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+"),
    Cut::At(r"\p{N}"),
];

const DEEPSEEK_3: &[Cut] = &[
    Cut::At(r"\p{N}{1,3}"),
    Cut::At(r"[\u{4E00}-\u{9FA5}\u{3040}-\u{30FF}]+"),
    Cut::ThenRuns(concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
    )),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Pretokenizer::named(name)
            .unwrap()
            .split(text, |word| words.push(word.into()));
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_one_to_the_word_after_it() {
        assert_eq!(
            words("gpt-2", "a   b \n\n c  "),
            ["a", "  ", " b", " \n\n", " c", "  "]
        );
        assert_eq!(
            words("qwen2", "a\u{3000}\u{3000}\n\n  b"),
            ["a", "\u{3000}\u{3000}\n\n", " ", " b"]
        );
        assert_eq!(
            words("llama3", "\t\t1234\t!"),
            ["\t", "\t", "123", "4", "\t", "!"]
        );
    }

    #[test]
    fn names_without_known_rules_are_refused_by_name() {
        let message = Pretokenizer::named("novel-bpe").unwrap_err().to_string();
        assert!(message.contains("novel-bpe"), "{message}");
    }

    #[test]
    fn every_rule_keeps_every_character() {
        let text = "Hello, World's \r\n\r\n  12345 ½ ٣ 日本語カナ 한국어 \u{a0}\u{2003} ʼn Ǆ 'RE 'll !!\n/x\t\tαβγ  ";
        let names = [
            "llama3",
            "dbrx",
            "qwen2",
            "qwen35",
            "gpt-2",
            "refact",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "falcon",
            "tekken",
            "gpt-4o",
            "bailingmoe",
            "seed-coder",
            "default",
        ];
        for name in names {
            words(name, text);
        }
    }

    #[test]
    fn long_runs_are_cut_in_linear_time() {
        for name in ["llama3", "gpt-2", "deepseek-llm", "tekken", "default"] {
            for filler in [" ", "a", "1", "\n", "!", "日", " \n", "A"] {
                words(name, &filler.repeat(100_000));
            }
        }
    }
}
