//! PDF to text, page by page. PDF parsers panic, loop and eat memory on hostile files: runs in the child process only.

mod clean;
mod cmap;
mod columns;
mod document;
mod encoding;
mod font;
mod headings;
mod layout;
mod lexer;
mod matrix;
mod mend;
mod outline;
mod owner;
mod page;
mod picture;
mod read;
mod streams;

pub use clean::page as clean_page;
pub use clean::page_break;
pub use read::PdfReader;
