// What a document's row says while it is being read. Pure.
import type { IngestProgress, StoreFile } from "./wire";

export interface ProgressView {
  text: string;
  /** 0 to 1, or null while nothing can be known. */
  fraction: number | null;
}

/** Reading takes the first fifth of the bar: embedding is where the time goes. */
const READING_SHARE = 0.2;

export function progressView(progress: IngestProgress | null | undefined): ProgressView {
  if (!progress) return { text: "waiting to be read", fraction: null };
  const { pages_read, pages_total, chunks_done, chunks_total } = progress;
  const left = timeLeft(progress.seconds_left ?? null);
  if (chunks_total !== null && chunks_total > 0) {
    return {
      text: `embedding ${Math.min(chunks_done, chunks_total)} of ${count(chunks_total, "passage")}${left}`,
      fraction: READING_SHARE + (1 - READING_SHARE) * Math.min(1, chunks_done / chunks_total),
    };
  }
  if (pages_total !== null && pages_total > 0) {
    return {
      text: `page ${Math.min(pages_read, pages_total)} of ${pages_total}${left}`,
      fraction: READING_SHARE * Math.min(1, pages_read / pages_total),
    };
  }
  return { text: pages_read > 0 ? `${count(pages_read, "page")} read` : "waiting to be read", fraction: null };
}

/** ", 2 minutes left", in figures that do not flicker; nothing while it is not known. */
function timeLeft(seconds: number | null): string {
  if (seconds === null) return "";
  if (seconds < 10) return ", a few seconds left";
  if (seconds < 55) return `, ${Math.ceil(seconds / 10) * 10} seconds left`;
  if (seconds < 3600) return `, ${count(Math.ceil(seconds / 60), "minute")} left`;
  return `, ${count(Math.round(seconds / 3600), "hour")} left`;
}

/** "12 pages · 120 passages", as far as it is known. */
export function contentsText(file: Pick<StoreFile, "progress">): string {
  const parts: string[] = [];
  const { pages_total, chunks_total } = file.progress ?? { pages_total: null, chunks_total: null };
  if (pages_total !== null && pages_total > 1) parts.push(count(pages_total, "page"));
  if (chunks_total !== null) parts.push(count(chunks_total, "passage"));
  return parts.join(" · ");
}

export function sizeText(bytes: number): string {
  if (bytes < 1000) return count(bytes, "byte");
  const units = ["kB", "MB", "GB"];
  let size = bytes / 1000;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 9.95 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
