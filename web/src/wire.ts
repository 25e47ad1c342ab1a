// The JSON that the server speaks, as far as this app reads it. Types only.

export interface Status {
  version: string;
  chat_model: ModelInfo | null;
  embedding_model: ModelInfo | null;
  /** What answers from documents, the default first. */
  answer_models: string[];
  device: string;
  default_vector_store_id: string;
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
}
