//! Answers a checked request from documents, in the way that it asks for: with what was answered before, with a summary, by
//! quoting, or by the chat model.

use super::file_search::FileSearch;
use super::input::Asked;
use super::prepare::{held_by, unanswered};
use super::request::Checked;
use super::wishes::Mode;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::answer::{Answer, AnswerError, Question};
use crate::rag::answer_cache::{AnswerKey, Recording, normalised};
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::ChatModel;
use crate::rag::prompt::{Turn, known_passages};
use crate::rag::retrieve::{Retrieved, as_if_found};
use crate::rag::standalone::standalone;
use crate::rag::summary::{self, Wish};
use crate::rag::{Answerer, Workspace, quote};
use crate::store::IndexVersion;

/// What was searched for, and what was found.
type Found = (String, Retrieved);

/// A question about documents, and who answers it how.
pub struct Answering<'a> {
    workspace: &'a Workspace,
    search: &'a FileSearch,
    checked: &'a Checked,
    asked: Asked,
    pub answerer: Answerer,
    pub mode: Mode,
    /// Confidence below which the answer is declined.
    pub min_confidence: f32,
}

impl<'a> Answering<'a> {
    /// Waits while the model is loaded, where one answers.
    pub async fn new(
        context: &'a Context,
        search: &'a FileSearch,
        checked: &'a Checked,
    ) -> Result<Self, ApiError> {
        let workspace = &context.workspace;
        let asked = checked.conversation.asked();
        let no_question = || ApiError::invalid("input", "input has no message of role 'user'");
        let asked = asked.ok_or_else(no_question)?;
        let wishes = &checked.wishes;
        let model = checked.model.as_deref();
        let answerer = match wishes.mode {
            Some(Mode::Quote) => Answerer::Quote,
            Some(Mode::Answer) => Answerer::Chat(context.chat_model(model).await?),
            Some(Mode::Summary) | None => context.answerer(model).await?,
        };
        let (mode, min_confidence) = match &answerer {
            _ if wishes.mode == Some(Mode::Summary) => (Mode::Summary, 0.0),
            // What a reader has selected is what they ask about.
            Answerer::Quote if wishes.selection.is_some() => (Mode::Quote, 0.0),
            Answerer::Quote => (Mode::Quote, workspace.min_quote_confidence),
            Answerer::Chat(_) => (Mode::Answer, workspace.min_confidence),
        };
        Ok(Self {
            workspace,
            search,
            checked,
            asked,
            answerer,
            mode,
            min_confidence: wishes.min_confidence.unwrap_or(min_confidence),
        })
    }

    /// The answer, with what was found for it, numbered as the answer cites it.
    pub async fn answer(&self) -> Result<(Answer, Option<Found>), ApiError> {
        if self.mode == Mode::Summary {
            return Ok((self.summary().await?, None));
        }
        let key = match self.may_be_kept() {
            true => Some(self.key(self.workspace.store.index_version().await?)),
            false => None,
        };
        if let Some(key) = &key {
            let kept = self.workspace.answers.get(&self.workspace.store, key);
            if let Some(kept) = kept.await.map_err(|error| self.unanswered(error))? {
                let answer = Answer::again(&self.workspace.store, &kept);
                return Ok((answer, kept.found.clone()));
            }
        }
        let (mut answer, found) = match &self.answerer {
            Answerer::Quote => self.quoted().await?,
            Answerer::Chat(chat) => self.written(chat).await?,
        };
        // A search that did not go as it should may go better the next time.
        let is_whole = found
            .as_ref()
            .is_none_or(|(_, found)| found.notes.is_empty());
        if let Some(key) = key.filter(|_| is_whole) {
            answer.record(Recording::new(&self.workspace.answers, key, found.clone()));
        }
        Ok((answer, found))
    }

    /// Whether the same request would be answered in the same words, or the caller says that it does not matter. What a
    /// conversation goes on with is answered anew.
    fn may_be_kept(&self) -> bool {
        let (checked, asked) = (self.checked, &self.asked);
        let sampling = &checked.options.sampling;
        let has_no_choice = matches!(self.answerer, Answerer::Quote)
            || sampling.temperature == 0.0
            || sampling.seed.is_some();
        let is_first =
            asked.earlier.is_empty() && asked.following.is_empty() && asked.sources.is_empty();
        self.workspace.answers.is_on()
            && checked.wishes.cache.unwrap_or(has_no_choice)
            && is_first
            && !checked.functions.is_wanted()
            && checked.options.logprobs.is_none()
            && (checked.is_searching || checked.wishes.selection.is_some())
    }

    /// Everything that the answer depends on: what is asked, by whom and how, and all that can be found.
    fn key(&self, version: IndexVersion) -> AnswerKey {
        let checked = self.checked;
        let mut search = self.search.clone();
        search.scope.vector_store_ids.sort_unstable();
        search
            .scope
            .file_ids
            .iter_mut()
            .for_each(|ids| ids.sort_unstable());
        let who = (self.answerer.id(), self.mode.name(), checked.is_thinking);
        let wishes = &checked.wishes;
        AnswerKey::of(&(
            normalised(&self.asked.question),
            (
                who,
                self.min_confidence.to_bits(),
                self.workspace.min_similarity.to_bits(),
            ),
            (
                &wishes.selection,
                &wishes.reader,
                &checked.echo.instructions,
            ),
            (search, version),
            (&checked.options, &checked.shape),
        ))
    }

    async fn summary(&self) -> Result<Answer, ApiError> {
        let passages = match &self.checked.wishes.selection {
            Some(selection) => selection.passages(),
            None => summary::passages(self.workspace, &self.search.scope).await?,
        };
        if passages.is_empty() {
            return Ok(Answer::not_found(self.workspace));
        }
        let answer = match &self.answerer {
            Answerer::Quote => {
                let extract = summary::extract(self.workspace, &passages).await?;
                Answer::extracted(self.workspace, extract, summary::EXTRACTIVE).await
            }
            Answerer::Chat(chat) => {
                let wish = Wish {
                    request: self.asked.question.clone(),
                    instructions: self.checked.echo.instructions.clone(),
                    reader: self.checked.wishes.reader.clone(),
                    options: self.checked.options.clone(),
                };
                let preparing = summary::begin(self.workspace, chat, passages, wish).await;
                preparing.map(|preparing| Answer::prepared(self.workspace, preparing))
            }
        };
        answer.map_err(|error| self.unanswered(error))
    }

    async fn quoted(&self) -> Result<(Answer, Option<Found>), ApiError> {
        if let Some(selection) = &self.checked.wishes.selection {
            let question = &self.asked.question;
            let found = as_if_found(self.workspace, question, selection.passages()).await?;
            let answer = self.quote(question, &found).await?;
            return Ok((answer, None));
        }
        // The words of the question before are enough to quote by, and no model is waited for.
        let query = standalone(None, &self.asked.question, &self.asked.earlier).await;
        let found = self.found(query).await?;
        let answer = self.quote(&found.0, &found.1).await?;
        Ok((answer, Some(found)))
    }

    async fn quote(&self, question: &str, found: &Retrieved) -> Result<Answer, ApiError> {
        let quoted = Answer::quote(self.workspace, question, found, self.min_confidence).await;
        quoted.map_err(|error| self.unanswered(error))
    }

    async fn written(&self, chat: &ChatModel) -> Result<(Answer, Option<Found>), ApiError> {
        let (mut question, mut found) = self.question(chat).await?;
        let mut confidence = None;
        if let Some((query, found)) = &found {
            let best = quote::choose(self.workspace, query, found).await?;
            confidence = Some(best.map_or(0.0, |best| best.confidence));
        }
        let is_declined =
            question.is_found() && confidence.is_some_and(|it| it < self.min_confidence);
        if is_declined {
            question.decline();
        }
        let answer = Answer::begin(self.workspace, chat, question).await;
        let mut answer = answer.map_err(|error| self.unanswered(error))?;
        answer.about.confidence = confidence;
        answer.about.is_declined = is_declined;
        if let Some((_, found)) = &mut found {
            for (passage, number) in found.passages.iter_mut().zip(&answer.about.numbers) {
                passage.number = *number;
            }
        }
        Ok((answer, found))
    }

    /// The question that the model is asked, and what was found for it where it was searched for. A question goes on with
    /// the sources that it was shown with; a selection is all that there is to its question.
    pub async fn question(&self, chat: &ChatModel) -> Result<(Question, Option<Found>), ApiError> {
        let (checked, asked) = (self.checked, &self.asked);
        let itself = Turn {
            message: ChatMessage::User(asked.question.clone()),
            sources: asked.sources.clone(),
        };
        let turns = asked.earlier.iter().chain([&itself]);
        let known = known_passages(&self.workspace.store, &self.search.scope, turns).await?;
        let (passages, found) = match (&checked.wishes.selection, &itself.sources) {
            (Some(selection), _) => (Some(selection.passages()), None),
            (None, sources) if !sources.is_empty() => (Some(sources.among(&known)), None),
            _ if !checked.is_searching => (None, None),
            _ => {
                // What a demonstration model writes is no better to search for.
                let writer = self.workspace.writes_answers.then_some(chat);
                let query = standalone(writer, &asked.question, &asked.earlier).await;
                let found = self.found(query).await?;
                (Some(found.1.relevant().to_vec()), Some(found))
            }
        };
        let question = Question {
            text: asked.question.clone(),
            found: passages,
            earlier: asked.earlier.clone(),
            following: asked.following.clone(),
            known,
            instructions: checked.echo.instructions.clone(),
            reader: checked.wishes.reader.clone(),
            tools: checked.functions.clone(),
            shape: checked.shape.clone(),
            is_thinking: checked.is_thinking,
            options: checked.options.clone(),
        };
        Ok((question, found))
    }

    async fn found(&self, query: String) -> Result<Found, ApiError> {
        let queries = std::slice::from_ref(&query);
        let found = self.search.run(self.workspace, queries).await?;
        Ok((query, found))
    }

    fn unanswered(&self, error: AnswerError) -> ApiError {
        unanswered(error, held_by(self.checked))
    }
}
