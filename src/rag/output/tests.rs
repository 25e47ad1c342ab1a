//! What is read does not depend on how the text is cut, and is what each format means.

use proptest::prelude::*;

use super::{OutputEvent, OutputReader, ThinkingStart, ToolFormat, ToolsRead, merged};

fn reader(thinking: Option<ThinkingStart>, format: Option<ToolFormat>) -> OutputReader {
    let tools = format.map(|format| ToolsRead {
        format,
        names: vec!["weather".into(), "time".into()],
        allows_parallel: true,
    });
    OutputReader::new(thinking, tools)
}

fn read<'a>(
    mut reader: OutputReader,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Vec<OutputEvent> {
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(reader.push(piece));
    }
    events.extend(reader.finish());
    merged(events)
}

/// The events in short: text as it is, calls as `name(arguments)`, thoughts in parentheses.
fn told(events: &[OutputEvent]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for event in events {
        match event {
            OutputEvent::Text(text) => told.push(text.clone()),
            OutputEvent::Reasoning(thought) => told.push(format!("({thought})")),
            OutputEvent::ToolCall { name, .. } => told.push(format!("{name}:")),
            OutputEvent::ToolArguments { fragment, .. } => {
                told.last_mut().unwrap().push_str(fragment)
            }
        }
    }
    told
}

fn calls(format: ToolFormat, text: &str) -> Vec<String> {
    told(&read(reader(None, Some(format)), [text]))
}

fn thoughts(start: ThinkingStart, text: &str) -> Vec<String> {
    told(&read(reader(Some(start), None), [text]))
}

const CALL: &str = r#"{"name": "weather", "arguments": {"city": "Oslo {\" }"}}"#;
const ARGUMENTS: &str = r#"weather:{"city": "Oslo {\" }"}"#;

#[test]
fn hermes_calls_are_framed() {
    use ToolFormat::Hermes;
    let text = format!("Let me see.\n<tool_call>\n{CALL}\n</tool_call>\n");
    assert_eq!(calls(Hermes, &text), ["Let me see.", ARGUMENTS]);
    let text = format!("<tool_call>{CALL}</tool_call>\n<tool_call>\n{CALL}\n</tool_call>");
    assert_eq!(calls(Hermes, &text), [ARGUMENTS, ARGUMENTS]);
    let text = format!("<tool_call>{CALL}</tool_call>Done.");
    assert_eq!(calls(Hermes, &text), [ARGUMENTS, "Done."]);
}

#[test]
fn hermes_frames_that_were_not_closed_well_are_understood() {
    use ToolFormat::Hermes;
    let no_end = format!("<tool_call>\n{CALL}");
    assert_eq!(calls(Hermes, &no_end), [ARGUMENTS]);
    let one_brace_short =
        "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"a\": 1}\n</tool_call>";
    assert_eq!(calls(Hermes, one_brace_short), ["time:{\"a\": 1}"]);
    let one_too_many = "<tool_call>{\"name\": \"time\", \"arguments\": {}}}</tool_call>!";
    assert_eq!(calls(Hermes, one_too_many), ["time:{}", "!"]);
    let twice_opened = format!("<tool_call>\n<tool_call>{CALL}</tool_call>");
    assert_eq!(calls(Hermes, &twice_opened), ["<tool_call>\n", ARGUMENTS]);
}

#[test]
fn keys_may_come_in_any_order_and_arguments_in_a_string_or_not_at_all() {
    use ToolFormat::Hermes;
    let call = |object: &str| calls(Hermes, &format!("<tool_call>{object}</tool_call>"));
    assert_eq!(
        call(r#"{"arguments": {"a": [1, {}]}, "name": "time"}"#),
        [r#"time:{"a": [1, {}]}"#]
    );
    assert_eq!(
        call(r#"{"id": "x", "name": "time", "arguments": "{\"a\": \"\\n\"}"}"#),
        [r#"time:{"a": "\n"}"#]
    );
    assert_eq!(call(r#"{"name": "time"}"#), ["time:{}"]);
    assert_eq!(call(r#"{"name": "time", "arguments": null}"#), ["time:{}"]);
    assert_eq!(
        call(r#"{"name": "time", "parameters": {"b": 2}}"#),
        [r#"time:{"b": 2}"#]
    );
}

#[test]
fn what_is_no_call_is_text_to_the_last_character() {
    use ToolFormat::{Hermes, Llama, MistralArgs, MistralArray, Taught};
    for (format, text) in [
        (Hermes, "a <tool_call>nothing</tool_call> b \n"),
        (Hermes, "1 < 2 <tool"),
        (
            Hermes,
            "x\n\n<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
        ),
        (Hermes, "<tool_call>{\"nam"),
        (Hermes, "<tool_call>{\"name\": 3}"),
        (Hermes, "{\"name\": \"weather\", \"arguments\": {}}"),
        (Llama, "{\"answer\": {\"name\": \"weather\"}}"),
        (Llama, " {\"name\": \"Ann\", \"age\": 3} "),
        (Llama, "Use {\"name\": \"weather\", \"parameters\": {}}"),
        (Llama, "<|python"),
        (Taught, "{}"),
        (MistralArray, "[TOOL_CALLS] none"),
        (MistralArray, "[TOOL_CALLS][]"),
        (MistralArgs, "[TOOL_CALLS]weather[ARG]{}"),
        (MistralArgs, "[TOOL_CALLS]weather and [TOOL"),
        (MistralArgs, "see [1] and [TOOL_RESULTS]"),
    ] {
        assert_eq!(calls(format, text).concat(), text, "{format:?}");
    }
}

#[test]
fn llama_calls_are_the_whole_answer() {
    use ToolFormat::Llama;
    let call = r#"{"name": "weather", "parameters": {"city": "Oslo"}}"#;
    let expected = [r#"weather:{"city": "Oslo"}"#];
    assert_eq!(calls(Llama, call), expected);
    assert_eq!(calls(Llama, &format!("<|python_tag|>{call}")), expected);
    assert_eq!(calls(Llama, &format!("\n\n{call}\n")), expected);
    let typed = r#"{"type": "function", "name": "time", "parameters": {}}"#;
    assert_eq!(
        calls(Llama, &format!("{call}; {typed}")),
        [expected[0], "time:{}"]
    );
    assert_eq!(calls(Llama, "<|python_tag|>print(1)"), ["print(1)"]);
}

#[test]
fn mistral_calls_are_an_array_or_named_before_their_arguments() {
    use ToolFormat::{MistralArgs, MistralArray};
    let time = r#"{"name": "time", "arguments": {}, "id": "abcdefghi"}"#;
    let array = format!("[TOOL_CALLS] [{CALL}, {time}]");
    for format in [MistralArray, MistralArgs] {
        assert_eq!(calls(format, &array), [ARGUMENTS, "time:{}"]);
        let named = r#"Ok.[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]time[CALL_ID]abcdefghi[ARGS]{}"#;
        assert_eq!(
            calls(format, named),
            ["Ok.", r#"weather:{"city": "Oslo"}"#, "time:{}"]
        );
        assert_eq!(
            calls(format, "[TOOL_CALLS]time{\"a\": 1}"),
            ["time:{\"a\": 1}"]
        );
    }
}

#[test]
fn a_taught_model_may_forget_the_frame() {
    assert_eq!(calls(ToolFormat::Taught, CALL), [ARGUMENTS]);
    let framed = format!("Yes. <tool_call>{CALL}</tool_call>");
    assert_eq!(calls(ToolFormat::Taught, &framed), ["Yes.", ARGUMENTS]);
}

#[test]
fn one_call_is_all_where_only_one_is_wanted() {
    let tools = ToolsRead {
        format: ToolFormat::Hermes,
        names: vec!["weather".into()],
        allows_parallel: false,
    };
    let mut reader = OutputReader::new(None, Some(tools));
    let text = format!("<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>");
    assert!(!reader.is_complete());
    assert_eq!(told(&reader.push(&text)), [ARGUMENTS]);
    assert!(reader.is_complete());
    assert!(reader.finish().is_empty());
}

#[test]
fn arguments_are_told_while_they_are_written() {
    let mut reader = reader(None, Some(ToolFormat::Hermes));
    assert!(reader.push("<tool_call>{\"name\": \"weather").is_empty());
    assert_eq!(told(&reader.push("\", \"arguments\":")), ["weather:"]);
    let fragment = |text: &str| {
        let (index, fragment) = (0, text.to_owned());
        [OutputEvent::ToolArguments { index, fragment }]
    };
    assert_eq!(reader.push(" {\"ci"), fragment("{\"ci"));
    assert_eq!(reader.push("ty\": \"Os"), fragment("ty\": \"Os"));
}

#[test]
fn thoughts_are_told_apart_from_the_answer() {
    use ThinkingStart::{InAnswer, InPrompt};
    assert_eq!(
        thoughts(InAnswer, "<think>\nSo be it.\n</think>\n\nYes. "),
        ["(So be it.)", "Yes. "]
    );
    assert_eq!(
        thoughts(InPrompt, "\nHm < 3\n\n</think>No"),
        ["(Hm < 3)", "No"]
    );
    assert_eq!(thoughts(InAnswer, "<think>\n\n</think>\n\nNo"), ["No"]);
    assert_eq!(
        thoughts(InAnswer, " An answer with <think> in it"),
        [" An answer with <think> in it"]
    );
    assert_eq!(thoughts(InAnswer, "<thin"), ["<thin"]);
    assert_eq!(thoughts(InPrompt, "cut off </thi"), ["(cut off </thi)"]);
}

#[test]
fn calls_come_after_thoughts_and_not_within() {
    let reader = reader(Some(ThinkingStart::InAnswer), Some(ToolFormat::Hermes));
    let text = format!(
        "<think>I could <tool_call>{CALL}</tool_call></think>\n<tool_call>{CALL}</tool_call>"
    );
    let expected = [
        format!("(I could <tool_call>{CALL}</tool_call>)"),
        ARGUMENTS.into(),
    ];
    assert_eq!(told(&read(reader, [text.as_str()])), expected);
}

const FORMATS: [Option<ToolFormat>; 6] = [
    None,
    Some(ToolFormat::Hermes),
    Some(ToolFormat::Llama),
    Some(ToolFormat::MistralArray),
    Some(ToolFormat::MistralArgs),
    Some(ToolFormat::Taught),
];

fn words() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<|python_tag|>",
        "{\"name\": \"weather\", ",
        "\"arguments\": {\"a\": \"b",
        "\"}}",
        "\\\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        "\n",
        " ",
        "weather",
        "time",
        "{\"name\": \"time\", \"parameters\": {}}",
        "é",
        "<",
        "\"",
        "x",
    ]);
    prop::collection::vec(words, 0..14).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn what_is_read_does_not_depend_on_how_the_text_is_cut(
        text in words(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        format in prop::sample::select(FORMATS.to_vec()),
        thinking in prop::sample::select(vec![None, Some(ThinkingStart::InPrompt), Some(ThinkingStart::InAnswer)]),
    ) {
        let whole = read(reader(thinking, format), [text.as_str()]);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.retain(|place| text.is_char_boundary(*place));
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| &text[pair[0]..pair[1]]);
        prop_assert_eq!(&read(reader(thinking, format), pieces), &whole);
        let letters = text.char_indices().map(|(at, letter)| &text[at..at + letter.len_utf8()]);
        prop_assert_eq!(&read(reader(thinking, format), letters), &whole);
    }
}
