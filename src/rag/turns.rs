//! The turns of a conversation: a question with all that follows until the next. Decides which of them go when the
//! context is full. Pure.

use crate::rag::conversation::ChatMessage;

/// The places of the messages that make up the oldest turns, as many whole turns as free about `over` of the
/// `num_tokens` that all messages take in a prompt, at least one. Never what the system said, never the last turn:
/// nothing is left to go when that is all there is.
pub fn oldest(
    messages: &[ChatMessage],
    over: usize,
    num_tokens: usize,
    count_tokens: impl Fn(&str) -> usize,
) -> Vec<usize> {
    let sizes: Vec<usize> = messages
        .iter()
        .map(|message| size(message, &count_tokens))
        .collect();
    // What the template puts around messages goes with them.
    let over = over * sizes.iter().sum::<usize>() / num_tokens.max(1);
    let is_question = |message: &ChatMessage| matches!(message, ChatMessage::User(_));
    let last = messages.iter().rposition(is_question).unwrap_or(0);
    let mut freed = 0;
    let mut places = Vec::new();
    for (at, message) in messages[..last].iter().enumerate() {
        if is_question(message) && !places.is_empty() && freed >= over {
            break;
        }
        if !matches!(message, ChatMessage::System(_)) {
            freed += sizes[at];
            places.push(at);
        }
    }
    places
}

/// The tokens of what a message says.
pub fn size(message: &ChatMessage, count_tokens: impl Fn(&str) -> usize) -> usize {
    match message {
        ChatMessage::System(content)
        | ChatMessage::User(content)
        | ChatMessage::Tool { content, .. } => count_tokens(content),
        ChatMessage::Assistant { content, calls, .. } => {
            let calls = calls.iter().map(|call| count_tokens(&call.arguments));
            count_tokens(content) + calls.sum::<usize>()
        }
    }
}

/// How many items of a response's input a message is: each call is one of its own.
pub fn num_items(message: &ChatMessage) -> usize {
    match message {
        ChatMessage::Assistant { content, calls, .. } => {
            usize::from(!content.is_empty() || calls.is_empty()) + calls.len()
        }
        ChatMessage::System(_) | ChatMessage::User(_) | ChatMessage::Tool { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rag::conversation::PastCall;

    fn says(content: &str, calls: usize) -> ChatMessage {
        let call = PastCall {
            id: "c".into(),
            name: "f".into(),
            arguments: "{}".into(),
        };
        ChatMessage::Assistant {
            content: content.into(),
            reasoning: None,
            calls: vec![call; calls],
        }
    }

    fn asks(content: &str) -> ChatMessage {
        ChatMessage::User(content.into())
    }

    #[test]
    fn whole_turns_go_from_the_oldest_and_never_the_system_or_the_last_question() {
        let result = ChatMessage::Tool {
            call_id: "c".into(),
            content: "12".into(),
        };
        let messages = [
            ChatMessage::System("stays".into()),
            says("hello", 0),
            asks("one"),
            says("", 1),
            result,
            says("1", 0),
            ChatMessage::System("stays too".into()),
            asks("two"),
            says("2", 0),
            asks("three"),
            says("3", 1),
        ];
        let letters = |text: &str| text.len();
        // 39 letters in all; a prompt of as many, so that nothing is scaled.
        let oldest = |over, num_tokens| oldest(&messages, over, num_tokens, letters);
        assert_eq!(oldest(1, 39), [1]);
        // hello, one, {}, 12 and 1 have 13 letters.
        assert_eq!(oldest(13, 39), [1, 2, 3, 4, 5]);
        assert_eq!(oldest(14, 39), [1, 2, 3, 4, 5, 7, 8]);
        assert_eq!(oldest(1000, 39), [1, 2, 3, 4, 5, 7, 8]);
        // With as much again around the messages, half of what is over is in them.
        assert_eq!(oldest(26, 78), [1, 2, 3, 4, 5]);
        assert!(super::oldest(&messages[9..], 1000, 39, letters).is_empty());
        assert_eq!(num_items(&messages[3]), 1);
        assert_eq!(num_items(&messages[10]), 2);
    }
}
