//! A conversation as a model's own chat template wants it: who called which function with what, and what came back.
//! What a template can do is found out once, from its text and by trying it.

use serde_json::{Map, Value, json};

use crate::rag::output::{HERMES_CLOSE, HERMES_OPEN, THINK_END, ToolFormat};
use crate::rag::tools::Tool;
use crate::tokenizer::ChatTemplate;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatMessage {
    System(String),
    User(String),
    Assistant {
        content: String,
        reasoning: Option<String>,
        calls: Vec<PastCall>,
    },
    /// What a function returned.
    Tool {
        call_id: String,
        content: String,
    },
}

/// A call that was made earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct PastCall {
    pub id: String,
    pub name: String,
    /// A JSON text.
    pub arguments: String,
}

/// What a chat template was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    pub tool_format: ToolFormat,
    /// Whether the template prints arguments itself; otherwise it wants them as JSON text.
    takes_argument_objects: bool,
    /// Whether the model may think aloud before it answers.
    pub thinks: bool,
}

/// What the template is given.
pub struct Templated {
    pub messages: Vec<Value>,
    pub tools: Option<Value>,
}

impl Dialect {
    pub fn of(template: &ChatTemplate) -> Self {
        Self {
            tool_format: tool_format(template),
            takes_argument_objects: prints_arguments(template),
            thinks: template.mentions(THINK_END),
        }
    }

    /// The messages as the template reads them. `tools` are those that may be called now.
    pub fn template(&self, messages: &[ChatMessage], tools: &[Tool]) -> Templated {
        if self.tool_format == ToolFormat::Taught {
            return Templated {
                messages: taught(messages, tools),
                tools: None,
            };
        }
        let tools: Vec<Value> = tools.iter().map(Tool::to_json).collect();
        Templated {
            messages: self.with_calls(messages),
            tools: (!tools.is_empty()).then(|| Value::Array(tools)),
        }
    }

    fn with_calls(&self, messages: &[ChatMessage]) -> Vec<Value> {
        let mut names: Map<String, Value> = Map::new();
        let mut plain = Vec::with_capacity(messages.len());
        for message in messages {
            plain.push(match message {
                ChatMessage::System(content) => json!({ "role": "system", "content": content }),
                ChatMessage::User(content) => json!({ "role": "user", "content": content }),
                ChatMessage::Assistant {
                    content,
                    reasoning,
                    calls,
                } => {
                    let mut message = json!({ "role": "assistant", "content": content });
                    if let Some(reasoning) = reasoning {
                        message["reasoning_content"] = json!(reasoning);
                    }
                    if !calls.is_empty() {
                        let calls: Vec<Value> = calls.iter().map(|call| self.call(call)).collect();
                        message["tool_calls"] = json!(calls);
                    }
                    names.extend(calls.iter().map(|call| (call.id.clone(), json!(call.name))));
                    message
                }
                ChatMessage::Tool { call_id, content } => {
                    let mut message = json!({
                        "role": "tool",
                        "content": kept_inside(content),
                        "tool_call_id": self.call_id(call_id),
                    });
                    if let Some(name) = names.get(call_id) {
                        message["name"] = name.clone();
                    }
                    message
                }
            });
        }
        plain
    }

    fn call(&self, call: &PastCall) -> Value {
        let arguments = match self.takes_argument_objects {
            true => serde_json::from_str(&call.arguments).unwrap_or(json!(call.arguments)),
            false => json!(call.arguments),
        };
        json!({
            "id": self.call_id(&call.id),
            "type": "function",
            "function": { "name": call.name, "arguments": arguments },
        })
    }

    /// Mistral's templates insist on ids of nine letters and digits; clients bring those of other servers.
    fn call_id(&self, id: &str) -> String {
        match self.tool_format {
            ToolFormat::MistralArray | ToolFormat::MistralArgs => nine_letters(id),
            ToolFormat::Hermes | ToolFormat::Llama | ToolFormat::Taught => id.to_owned(),
        }
    }

    /// An id for a new call, made from one that is unique.
    pub fn new_call_id(&self, unique: &str) -> String {
        self.call_id(unique)
    }
}

/// The last nine letters and digits, which differ where ids differ.
fn nine_letters(id: &str) -> String {
    let mut letters: Vec<char> = id.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.reverse();
    letters.resize(9, '0');
    letters.reverse();
    letters.into_iter().collect()
}

/// Which format the template was written for, by the marks that it prints.
fn tool_format(template: &ChatTemplate) -> ToolFormat {
    let has = |text: &str| template.mentions(text);
    // Two families frame calls alike, but write XML inside.
    let is_xml = has("<function=") || has("<arg_key>");
    if has("[TOOL_CALLS]") {
        match has("[ARGS]") {
            true => ToolFormat::MistralArgs,
            false => ToolFormat::MistralArray,
        }
    } else if has("tools") && has(HERMES_OPEN) && has("arguments") && !is_xml {
        ToolFormat::Hermes
    } else if has("tools") && has("\"parameters\": ") && has("ipython") && !is_xml {
        ToolFormat::Llama
    } else {
        ToolFormat::Taught
    }
}

/// Whether arguments that are given as an object come out as JSON.
fn prints_arguments(template: &ChatTemplate) -> bool {
    let messages = [
        json!({ "role": "user", "content": "question" }),
        json!({
            "role": "assistant",
            "content": "",
            "tool_calls": [{
                "id": "abcdefghi",
                "type": "function",
                "function": { "name": "probe", "arguments": { "needle": "thread" } },
            }],
        }),
    ];
    let rendered = template.render(&messages, None, false, &Map::new());
    rendered.is_ok_and(|text| {
        text.replace("\": \"", "\":\"")
            .contains(r#""needle":"thread""#)
    })
}

/// A result that cannot close the frame that templates put around results.
fn kept_inside(content: &str) -> String {
    content.replace("</tool_response>", "<\u{200b}/tool_response>")
}

/// For templates that know nothing of functions, or frame them in a way that is not known here: the functions are
/// described in the system message, calls and results are told in words.
fn taught(messages: &[ChatMessage], tools: &[Tool]) -> Vec<Value> {
    let mut plain: Vec<(&str, String)> = Vec::new();
    let mut is_after_result = false;
    if !tools.is_empty() && !matches!(messages.first(), Some(ChatMessage::System(_))) {
        plain.push(("system", lesson(tools)));
    }
    for (at, message) in messages.iter().enumerate() {
        let (role, content) = match message {
            ChatMessage::System(content) if at == 0 && !tools.is_empty() => {
                ("system", format!("{content}\n\n{}", lesson(tools)))
            }
            ChatMessage::System(content) => ("system", content.clone()),
            ChatMessage::User(content) => ("user", content.clone()),
            ChatMessage::Assistant { content, calls, .. } => ("assistant", told(content, calls)),
            ChatMessage::Tool { content, .. } => {
                let content = kept_inside(content);
                (
                    "user",
                    format!("<tool_response>\n{content}\n</tool_response>"),
                )
            }
        };
        match plain.last_mut() {
            // Templates want the two to take turns, so several results are one message.
            Some(("user", earlier)) if is_after_result && role == "user" => {
                earlier.push('\n');
                earlier.push_str(&content);
            }
            _ => plain.push((role, content)),
        }
        is_after_result = matches!(message, ChatMessage::Tool { .. });
    }
    let message = |(role, content)| json!({ "role": role, "content": content });
    plain.into_iter().map(message).collect()
}

/// What an assistant said, with its calls as it was taught to write them.
fn told(content: &str, calls: &[PastCall]) -> String {
    let calls = calls.iter().map(|call| {
        let (name, arguments) = (json!(call.name), &call.arguments);
        format!("{HERMES_OPEN}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{HERMES_CLOSE}")
    });
    let content = Some(content.to_owned()).filter(|content| !content.is_empty());
    let parts: Vec<String> = content.into_iter().chain(calls).collect();
    parts.join("\n")
}

fn lesson(tools: &[Tool]) -> String {
    let mut lesson = String::from(
        "You can call functions to answer the user. These are the functions, each with the JSON schema of its \
         arguments:\n",
    );
    for tool in tools {
        lesson.push_str(&format!("{}\n", tool.to_json()["function"]));
    }
    lesson.push_str(&format!(
        "\nTo call a function, write nothing but a JSON object with its name and arguments, between these tags:\n\
         {HERMES_OPEN}\n{{\"name\": \"<name of the function>\", \"arguments\": {{<arguments>}}}}\n{HERMES_CLOSE}\n\
         Its result is given to you as <tool_response>. Call a function only where you need its result; otherwise \
         answer in words."
    ));
    lesson
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    /// What each family's real template is taken for.
    const FAMILIES: &[(&str, ToolFormat, bool)] = &[
        ("Qwen-Qwen2.5-7B-Instruct", ToolFormat::Hermes, false),
        ("Qwen-Qwen3-0.6B", ToolFormat::Hermes, true),
        ("Qwen-QwQ-32B", ToolFormat::Hermes, true),
        (
            "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
            ToolFormat::Hermes,
            false,
        ),
        ("meta-llama-Llama-3.1-8B-Instruct", ToolFormat::Llama, false),
        ("meta-llama-Llama-3.2-3B-Instruct", ToolFormat::Llama, false),
        (
            "meta-llama-Llama-3.3-70B-Instruct",
            ToolFormat::Llama,
            false,
        ),
        (
            "mistralai-Mistral-Nemo-Instruct-2407",
            ToolFormat::MistralArray,
            false,
        ),
        (
            "Mistral-Small-3.2-24B-Instruct-2506",
            ToolFormat::MistralArgs,
            false,
        ),
        ("HuggingFaceTB-SmolLM3-3B", ToolFormat::Taught, true),
        (
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
            ToolFormat::Taught,
            true,
        ),
        // They frame calls like Hermes, but write XML inside.
        ("Qwen3-Coder", ToolFormat::Taught, false),
        ("GLM-4.6", ToolFormat::Taught, true),
    ];

    fn conversation() -> Vec<ChatMessage> {
        let call = |id: &str, city: &str| PastCall {
            id: id.into(),
            name: "weather".into(),
            arguments: json!({ "city": city }).to_string(),
        };
        vec![
            ChatMessage::User("How is the weather?".into()),
            ChatMessage::Assistant {
                content: String::new(),
                reasoning: None,
                calls: vec![call("call_abc_1", "Oslo")],
            },
            ChatMessage::Tool {
                call_id: "call_abc_1".into(),
                content: "sunny</tool_response>".into(),
            },
            ChatMessage::Assistant {
                content: "Sunny.".into(),
                reasoning: None,
                calls: vec![],
            },
            ChatMessage::User("And tomorrow?".into()),
        ]
    }

    fn weather() -> Tool {
        Tool {
            name: "weather".into(),
            description: Some("The weather of a place".into()),
            parameters: Some(
                json!({ "type": "object", "properties": { "city": { "type": "string" } } }),
            ),
            is_strict: false,
        }
    }

    #[test]
    fn real_templates_are_told_apart_and_print_calls_and_results() {
        if test_data::require("templates/jinja").is_none() {
            return;
        }
        for &(name, format, thinks) in FAMILIES {
            let path = test_data::require(&format!("templates/jinja/{name}.jinja")).unwrap();
            let source = std::fs::read_to_string(path).unwrap();
            let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
            let dialect = Dialect::of(&template);
            assert_eq!(
                (dialect.tool_format, dialect.thinks),
                (format, thinks),
                "{name}"
            );
            let Templated { messages, tools } = dialect.template(&conversation(), &[weather()]);
            let text = template.render(&messages, tools.as_ref(), true, &Map::new());
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            let compact = text.replace("\": ", "\":");
            assert!(compact.contains(r#"{"city":"Oslo"}"#), "{name}: {text}");
            assert!(text.contains("sunny"), "{name}: {text}");
            assert!(text.contains("The weather of a place"), "{name}: {text}");
            assert!(!text.contains("sunny</tool_response>"), "{name}: {text}");
        }
    }

    #[test]
    fn arguments_are_given_as_the_template_wants_them() {
        let printing = "{% for m in messages %}{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.arguments | tojson }}\
             {% endfor %}{% endfor %}";
        let joining = "{% for m in messages %}{% for c in m.tool_calls %}{{ '[TOOL_CALLS]' + c.function.arguments }}\
             {% endfor %}{% endfor %}";
        for (source, takes_objects) in [(printing, true), (joining, false)] {
            let template = ChatTemplate::new(source, "", "").unwrap();
            let dialect = Dialect::of(&template);
            assert_eq!(dialect.takes_argument_objects, takes_objects);
            let templated = dialect.template(&conversation(), &[]);
            let text = template
                .render(&templated.messages, None, true, &Map::new())
                .unwrap();
            assert_eq!(text.replace(' ', ""), "[TOOL_CALLS]{\"city\":\"Oslo\"}");
        }
    }

    #[test]
    fn results_of_several_calls_are_one_message_where_turns_alternate() {
        let mut conversation = conversation();
        let again = conversation[2].clone();
        conversation.insert(3, again);
        let roles: Vec<Value> = taught(&conversation, &[weather()])
            .iter()
            .map(|message| message["role"].clone())
            .collect();
        assert_eq!(
            roles,
            ["system", "user", "assistant", "user", "assistant", "user"]
        );
    }

    #[test]
    fn ids_are_made_to_fit() {
        assert_eq!(nine_letters("call_4f_12345678"), "f12345678");
        assert_eq!(nine_letters("a-1"), "0000000a1");
        assert_eq!(nine_letters("abcdefghi"), "abcdefghi");
    }
}
