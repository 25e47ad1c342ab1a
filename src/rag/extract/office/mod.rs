//! Microsoft's Office Open XML: packages of parts that refer to one another. Never follows a reference out of the file.

pub mod docx;
mod drawing;
pub(super) mod math;
mod number_format;
pub mod numbering;
pub mod pptx;
mod styles;
pub mod xlsx;

use std::collections::HashMap;

use super::archive::{Archive, resolved};
use super::protocol::Refusal;
use super::reader::Budget;
use super::table::on_one_line;
use super::xml;

/// A package and its main part.
pub struct Package {
    pub archive: Archive,
    pub main: String,
    pub relations: Relations,
}

/// What a part refers to, by id.
#[derive(Default)]
pub struct Relations {
    by_id: HashMap<String, Relation>,
}

struct Relation {
    /// The last word of its type, as `footnotes`.
    kind: String,
    target: String,
}

impl Relations {
    pub fn target(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|relation| relation.target.as_str())
    }

    pub fn of_kind(&self, kind: &str) -> Option<&str> {
        let mut of_kind: Vec<_> = self.by_id.values().filter(|it| it.kind == kind).collect();
        of_kind.sort_by_key(|it| &it.target);
        of_kind.first().map(|it| it.target.as_str())
    }
}

impl Package {
    /// `usual_main` is where programs put the main part of this format.
    pub fn open(bytes: Vec<u8>, usual_main: &str, budget: &Budget) -> Result<Self, Refusal> {
        let mut archive = Archive::open(bytes, budget)?;
        let of_package = relations(&mut archive, "")?;
        let main = of_package
            .of_kind("officeDocument")
            .filter(|main| archive.has(main))
            .unwrap_or(usual_main)
            .to_owned();
        if !archive.has(&main) {
            return Err(Refusal::Invalid(format!(
                "its main part {main:?} is missing"
            )));
        }
        let relations = relations(&mut archive, &main)?;
        Ok(Self {
            archive,
            main,
            relations,
        })
    }

    /// The tree of a part; `None` when there is no such part.
    pub fn tree(&mut self, part: &str) -> Result<Option<xml::Element>, String> {
        match self.archive.read_xml(part)? {
            Some(text) => xml::tree(&text, part).map(Some),
            None => Ok(None),
        }
    }

    /// A part of the kind that the main part refers to.
    pub fn part_of_kind(&mut self, kind: &str) -> Result<Option<xml::Element>, String> {
        match self.relations.of_kind(kind).map(str::to_owned) {
            Some(part) => self.tree(&part),
            None => Ok(None),
        }
    }

    pub fn relations_of(&mut self, part: &str) -> Result<Relations, String> {
        relations(&mut self.archive, part)
    }

    /// The title that the document's properties give.
    pub fn title(&mut self) -> Option<String> {
        let properties = self.tree("docProps/core.xml").ok()??;
        let title = on_one_line(&properties.child("title")?.text());
        (!title.is_empty()).then_some(title)
    }
}

fn relations(archive: &mut Archive, part: &str) -> Result<Relations, String> {
    let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
    let path = resolved("", &format!("{folder}/_rels/{name}.rels"));
    let Some(text) = archive.read_xml(&path)? else {
        return Ok(Relations::default());
    };
    let root = xml::tree(&text, &path)?;
    let inside = root
        .elements()
        .filter(|it| it.attribute("TargetMode") != Some("External"));
    let by_id = inside.filter_map(|it| {
        let kind = it.attribute("Type")?.rsplit('/').next()?.to_owned();
        let target = resolved(part, it.attribute("Target")?);
        Some((it.attribute("Id")?.to_owned(), Relation { kind, target }))
    });
    Ok(Relations {
        by_id: by_id.collect(),
    })
}
