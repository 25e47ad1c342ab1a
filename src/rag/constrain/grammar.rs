//! Writes the grammar of one answer: thoughts where the model has them, then text of the asked-for shape, or calls of
//! functions as the model's family frames them.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use super::{ConstrainError, Shape, schema};
use crate::rag::output::{THINK_END, THINK_START, ThinkingStart, ToolFormat};
use crate::rag::tools::{ToolChoice, ToolUse};

const MAX_GRAMMAR_BYTES: usize = 64 << 10;
const MAX_REGEX_BYTES: usize = 4 << 10;
const MAX_CHOICES: usize = 1_000;

/// What a grammar is made for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where thoughts may come first, which are free.
    pub thinking: Option<ThinkingStart>,
    pub shape: Option<Shape>,
    pub tools: ToolUse,
    pub format: ToolFormat,
}

impl Wanted {
    /// Whether anything is to be held at all.
    pub fn is_constrained(&self) -> bool {
        let choice = &self.tools.choice;
        self.shape.is_some()
            || match choice {
                ToolChoice::None => false,
                ToolChoice::Auto => self.tools.tools.iter().any(|tool| tool.is_strict),
                ToolChoice::Required | ToolChoice::Named(_) => self.tools.is_wanted(),
            }
    }
}

/// The rules of one grammar, and the grammars that they refer to by name.
struct Writer<'a> {
    rules: Vec<String>,
    parts: Vec<GrammarWithLexer>,
    /// The id of a mark that is a control token of the vocabulary.
    control_token: &'a dyn Fn(&str) -> Option<u32>,
}

/// The grammar in the library's own terms.
pub fn write(
    wanted: &Wanted,
    control_token: &dyn Fn(&str) -> Option<u32>,
) -> Result<TopLevelGrammar, ConstrainError> {
    let mut writer = Writer {
        rules: Vec::new(),
        parts: Vec::new(),
        control_token,
    };
    let answer = writer.answer(wanted)?;
    let start = match wanted.thinking {
        None => answer,
        Some(start) => {
            writer.rule("TEXT", r"/(.|\n)+/");
            let end = writer.text_up_to("thought", THINK_END);
            match start {
                ThinkingStart::InPrompt => format!("{end} BLANK? {answer}"),
                ThinkingStart::InAnswer => {
                    let open = writer.mark(THINK_START);
                    format!("({open} {end})? BLANK? {answer}")
                }
            }
        }
    };
    writer.rule("start", &start);
    writer.rule("BLANK", r"/[ \n]{1,4}/");
    let mut grammars = vec![GrammarWithLexer {
        name: Some("answer".into()),
        lark_grammar: Some(writer.rules.join("\n")),
        ..GrammarWithLexer::default()
    }];
    grammars.extend(writer.parts);
    Ok(TopLevelGrammar {
        grammars,
        max_tokens: None,
    })
}

impl Writer<'_> {
    fn rule(&mut self, name: &str, body: &str) {
        let is_new = !self
            .rules
            .iter()
            .any(|rule| rule.starts_with(&format!("{name}:")));
        if is_new {
            self.rules.push(format!("{name}: {body}"));
        }
    }

    /// What comes after the thoughts.
    fn answer(&mut self, wanted: &Wanted) -> Result<String, ConstrainError> {
        let shape = match &wanted.shape {
            Some(shape) => Some(self.shape(shape)?),
            None => None,
        };
        if !wanted.tools.is_wanted() {
            return Ok(match shape {
                Some(rule) if matches!(wanted.shape, Some(Shape::Json { .. })) => {
                    format!("BLANK? {rule}")
                }
                Some(rule) => rule,
                None => self.free_text(),
            });
        }
        let call = self.calls(wanted)?;
        let must_call = wanted.tools.choice != ToolChoice::Auto;
        Ok(match (must_call, shape) {
            (true, _) => format!("BLANK? {call}"),
            (false, Some(shape)) => format!("BLANK? ({shape} | {call})"),
            (false, None) => self.free_text_with_calls(wanted)?,
        })
    }

    fn free_text(&mut self) -> String {
        self.rule("TEXT", r"/(.|\n)+/");
        "TEXT?".into()
    }

    /// Text in which calls may stand anywhere; what a frame opens is held from there on.
    fn free_text_with_calls(&mut self, wanted: &Wanted) -> Result<String, ConstrainError> {
        let open = match wanted.format {
            ToolFormat::Llama => {
                // An object at the start is a call, and nothing else is.
                self.rule("WORDS", r"/[^{\s](.|\n)*/");
                let call = self.call(wanted)?;
                return Ok(format!("BLANK? ({call} | WORDS)?"));
            }
            ToolFormat::Hermes | ToolFormat::Taught => crate::rag::output::HERMES_OPEN,
            ToolFormat::MistralArray | ToolFormat::MistralArgs => crate::rag::output::MISTRAL_OPEN,
        };
        let rest = self.after_open(wanted)?;
        self.rule("TEXT", r"/(.|\n)+/");
        let before = self.text_up_to("before_call", open);
        let repeat = if wanted.tools.allows_parallel {
            "*"
        } else {
            "?"
        };
        Ok(format!("({before} {rest}){repeat} TEXT?"))
    }

    /// One call, or several where that is allowed.
    fn calls(&mut self, wanted: &Wanted) -> Result<String, ConstrainError> {
        let call = self.call(wanted)?;
        let is_one = !wanted.tools.allows_parallel
            || matches!(wanted.format, ToolFormat::Llama | ToolFormat::MistralArray);
        self.rule("call", &call);
        Ok(match is_one {
            // Several are in one array, and Llama makes one.
            true => "call".into(),
            false => "call (BLANK? call)*".into(),
        })
    }

    fn call(&mut self, wanted: &Wanted) -> Result<String, ConstrainError> {
        let rest = self.after_open(wanted)?;
        Ok(match wanted.format {
            ToolFormat::Llama => rest,
            ToolFormat::Hermes | ToolFormat::Taught => {
                format!("{} {rest}", self.mark(crate::rag::output::HERMES_OPEN))
            }
            ToolFormat::MistralArray | ToolFormat::MistralArgs => {
                format!("{} {rest}", self.mark(crate::rag::output::MISTRAL_OPEN))
            }
        })
    }

    /// A call from behind the mark that opens it.
    fn after_open(&mut self, wanted: &Wanted) -> Result<String, ConstrainError> {
        let must_fit = wanted.tools.choice != ToolChoice::Auto;
        let key = match wanted.format {
            ToolFormat::Llama => "parameters",
            _ => "arguments",
        };
        let mut options = Vec::new();
        for (at, tool) in wanted.tools.callable().enumerate() {
            let name = format!("arguments_{at}");
            let schema = match must_fit || tool.is_strict {
                true => tool.schema(),
                false => json!({ "type": "object" }),
            };
            self.json(&name, &schema, tool.is_strict)?;
            options.push(match wanted.format {
                ToolFormat::MistralArgs => {
                    let args = self.mark(crate::rag::output::MISTRAL_ARGS);
                    format!("{} {args} @{name}", literal(&tool.name))
                }
                _ => {
                    let head = format!(r#"{{"name": "{}", "{key}": "#, tool.name);
                    format!("{} @{name} {}", literal(&head), literal("}"))
                }
            });
        }
        self.rule("function", &options.join(" | "));
        Ok(match wanted.format {
            ToolFormat::Llama | ToolFormat::MistralArgs => "function".into(),
            ToolFormat::Hermes | ToolFormat::Taught => {
                let close = self.mark(crate::rag::output::HERMES_CLOSE);
                format!("{0} function {0} {close}", literal("\n"))
            }
            ToolFormat::MistralArray => {
                let more = match wanted.tools.allows_parallel {
                    true => format!("({} function)*", literal(", ")),
                    false => String::new(),
                };
                format!("{} function {more} {}", literal("["), literal("]"))
            }
        })
    }

    /// Free text that ends with this mark.
    fn text_up_to(&mut self, name: &str, mark: &str) -> String {
        match (self.control_token)(mark) {
            Some(id) => format!("TEXT? <[{id}]>"),
            None => {
                self.rules
                    .push(format!(r"{name}[lazy]: /(.|\n)*/ {}", literal(mark)));
                name.into()
            }
        }
    }

    fn mark(&self, mark: &str) -> String {
        match (self.control_token)(mark) {
            Some(id) => format!("<[{id}]>"),
            None => literal(mark),
        }
    }

    fn shape(&mut self, shape: &Shape) -> Result<String, ConstrainError> {
        match shape {
            Shape::Json { schema, is_strict } => self.json("shape", schema, *is_strict)?,
            Shape::Regex(regex) => {
                at_most("the regex", regex.len(), MAX_REGEX_BYTES, "bytes")?;
                self.part("shape", GrammarWithLexer::from_regex(regex));
            }
            Shape::Lark(grammar) => {
                at_most("the grammar", grammar.len(), MAX_GRAMMAR_BYTES, "bytes")?;
                if grammar.contains("%json") {
                    let message =
                        "the grammar embeds a JSON schema by %json; give the schema by itself"
                            .into();
                    return Err(ConstrainError::Schema { message });
                }
                self.part("shape", GrammarWithLexer::from_lark(grammar.clone()));
            }
            Shape::Choice(choices) => {
                at_most("the choice", choices.len(), MAX_CHOICES, "texts")?;
                let num_bytes = choices.iter().map(String::len).sum();
                at_most("the choice", num_bytes, MAX_GRAMMAR_BYTES, "bytes")?;
                let choices: Vec<String> = choices.iter().map(|text| literal(text)).collect();
                self.rule("choice", &choices.join(" | "));
                return Ok("choice".into());
            }
        }
        Ok("@shape".into())
    }

    fn json(&mut self, name: &str, schema: &Value, is_strict: bool) -> Result<(), ConstrainError> {
        let schema = schema::prepare(schema, is_strict)?;
        self.part(name, GrammarWithLexer::from_json_schema(schema));
        Ok(())
    }

    fn part(&mut self, name: &str, grammar: GrammarWithLexer) {
        if self
            .parts
            .iter()
            .any(|part| part.name.as_deref() == Some(name))
        {
            return;
        }
        self.parts.push(GrammarWithLexer {
            name: Some(name.to_owned()),
            ..grammar
        });
    }
}

fn at_most(what: &str, count: usize, limit: usize, unit: &str) -> Result<(), ConstrainError> {
    if count <= limit {
        return Ok(());
    }
    Err(ConstrainError::TooLarge {
        message: format!("{what} has {count} {unit}, but may have {limit}"),
    })
}

/// The text in quotation marks, as JSON and the grammar both write it.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
