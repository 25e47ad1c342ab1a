// The JSON that the server speaks, as far as this app reads it. Types only.

export interface Status {
  version: string;
  chat_model: ModelInfo | null;
  embedding_model: ModelInfo | null;
  /** What answers from documents, the default first. */
  answer_models: string[];
  device: string;
  default_vector_store_id: string;
  /** Whether the owner allows documents from the web. */
  web_import?: boolean;
  notices: string[];
}

export interface ModelInfo {
  id: string;
  /** Came with the program, to show what it does. */
  is_demonstration?: boolean;
}

export interface ErrorBody {
  error?: { message?: string; code?: string | null };
}

export interface Page<T> {
  data: T[];
  last_id: string | null;
  has_more: boolean;
}

export interface FileObject {
  id: string;
  filename: string;
  bytes: number;
}

export interface IngestProgress {
  pages_read: number;
  pages_total: number | null;
  chunks_done: number;
  chunks_total: number | null;
  /** An estimate; null while there is none. */
  seconds_left?: number | null;
}

export interface PageWarning {
  page: number;
  message: string;
}

export interface StoreFile {
  id: string;
  status: "in_progress" | "completed" | "failed" | "cancelled";
  last_error: { code: string; message: string } | null;
  progress?: IngestProgress | null;
  warnings?: PageWarning[];
  /** In the answer to adding: nothing was done, as this one of the same name and content was there already. */
  is_unchanged?: boolean;
}

/** Where a passage lies: a byte span of the document's extracted text. */
export interface PassageSpan {
  file_id: string;
  filename: string;
  number: number;
  page_first: number;
  page_last: number;
  start: number;
  end: number;
}

export interface SearchResult extends PassageSpan {
  score: number | null;
  /** Cosine similarity to the question; null where only its words were found. */
  similarity?: number | null;
  heading_path?: string[];
  text: string;
}

export interface Citation extends PassageSpan {
  type: "file_citation";
  /** Where the marker sits in the answer, in characters (code points). */
  index: number;
  quote: string;
}

export interface Passage {
  file_id: string;
  filename: string;
  title: string | null;
  page_first: number;
  page_last: number;
  before: string;
  text: string;
  after: string;
  start: number;
  end: number;
}

export interface OutputItem {
  type: string;
  results?: SearchResult[] | null;
  content?: { type: string; text?: string; annotations?: Citation[] }[];
}

export interface ResponseObject {
  id: string;
  output?: OutputItem[];
  error?: { code: string; message: string } | null;
  incomplete_details?: { reason: string } | null;
  metadata?: Record<string, string> | null;
  inglenook?: AboutAnswer | null;
}

/** What is to be known of an answer besides its words. */
export interface AboutAnswer {
  outcome?: "answered" | "not_found" | "declined" | "uncited";
  /** How sure it is, from 0 to 1. */
  confidence?: number | null;
  /** Whether it was given before. */
  cached?: boolean;
  /** What was searched for, where that is not the question as it was asked. */
  search_query?: string | null;
  summary?: { method: "written" | "extractive"; documents: number; passages: number } | null;
}

export interface ResponseEvent {
  type: string;
  delta?: string;
  text?: string;
  annotation?: Citation;
  item?: OutputItem;
  response?: ResponseObject;
  code?: string | null;
  message?: string;
  /** Of the work on a summary. */
  stage?: string;
  done?: number;
  total?: number;
}

/** Documents that come from the web. */
export interface Import {
  id: string;
  kind: "url" | "site" | "arxiv" | "unknown";
  source: string;
  status: "running" | "completed" | "cancelled" | "failed";
  error: string | null;
  counts: { queued: number; imported: number; unchanged: number; skipped: number; failed: number; gone: number; removed: number };
  pages?: ImportPage[];
}

export interface ImportPage {
  url: string;
  outcome: string | null;
  message: string | null;
}
