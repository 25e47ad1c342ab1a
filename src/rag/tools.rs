//! Functions that a model may call, and how it may call them. They are run by whoever asked, never here.

use serde_json::{Value, json};

/// A function as it was described.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_`, `-` and `.` only.
    pub name: String,
    pub description: Option<String>,
    /// The JSON schema of the arguments.
    pub parameters: Option<Value>,
    /// Whether the arguments must fit the schema wherever the model writes a call.
    pub is_strict: bool,
}

impl Tool {
    /// What chat templates print.
    pub fn to_json(&self) -> Value {
        let mut function = json!({ "name": self.name });
        if let Some(description) = &self.description {
            function["description"] = json!(description);
        }
        function["parameters"] = self.schema();
        json!({ "type": "function", "function": function })
    }

    /// The schema of the arguments; of none, where nothing was said.
    pub fn schema(&self) -> Value {
        let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
        self.parameters.clone().unwrap_or_else(none)
    }
}

/// Whether functions are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// Answer in words.
    None,
    /// The model decides.
    Auto,
    /// Call at least one.
    Required,
    /// Call this one.
    Named(String),
}

/// The functions of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolUse {
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    /// Whether one answer may have several calls.
    pub allows_parallel: bool,
}

impl Default for ToolUse {
    fn default() -> Self {
        Self {
            tools: Vec::new(),
            choice: ToolChoice::None,
            allows_parallel: true,
        }
    }
}

impl ToolUse {
    /// Whether calls are possible at all.
    pub fn is_wanted(&self) -> bool {
        !self.tools.is_empty() && self.choice != ToolChoice::None
    }

    /// The functions that the choice leaves.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        let is_callable = |tool: &&Tool| match &self.choice {
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::Named(name) => tool.name == *name,
        };
        self.tools.iter().filter(is_callable)
    }
}
