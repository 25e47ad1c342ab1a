// Joins the parts once the server has said what it is. Holds no state of its own.
import "./style.css";
import { Answerer } from "./answerer";
import { Api, describe } from "./api";
import { Chat } from "./chat";
import { askForKey } from "./dialogs";
import { Documents, type StoredDocument } from "./documents";
import { DocumentsPanel } from "./documents_panel";
import { el, find } from "./dom";
import { Imports } from "./imports";
import { PassageViewer } from "./passage";
import { PreferencesDialog } from "./preferences";
import type { ModelInfo, Status } from "./wire";

const api = new Api(askForKey);

async function start(): Promise<void> {
  try {
    const status = await api.status();
    showStatus(status);
    await run(status);
  } catch (error) {
    showFailure(describe(error) ?? "");
  }
}

async function run(status: Status): Promise<void> {
  const storeId = status.default_vector_store_id;
  const changed = (document: StoredDocument | null) => {
    panel.update(document);
    chat.updateControls();
  };
  const alreadyThere = (name: string) => panel.say(`${name} is there already, and has not changed.`);
  const documents: Documents = new Documents(api, storeId, changed, alreadyThere);
  const panel = new DocumentsPanel(documents);
  const viewer = new PassageViewer(api, (selection) => chat.askAbout(selection));
  const answerer: Answerer = new Answerer(status, () => chat.updateControls());
  const openPassage = viewer.open.bind(viewer);
  const chat = new Chat({
    api,
    documents,
    answerer,
    preferences: new PreferencesDialog(),
    storeId,
    openPassage: (span, opener) => void openPassage(span, opener),
  });
  if (status.web_import) new Imports(api, storeId, () => documents.load());
  find("new-conversation").addEventListener("click", () => viewer.close());
  await documents.load();
  document.body.dataset["ready"] = "";
  if (answerer.way !== null) find("question").focus();
}

function showStatus(status: Status): void {
  const part = (name: string, value: string, className = "") =>
    el("span", { class: className, title: value }, el("span", { class: "muted" }, `${name} `), value);
  find("status").replaceChildren(
    part("chat", modelText(status.chat_model)),
    part("search", modelText(status.embedding_model), "lesser"),
    part("on", status.device),
    part("version", status.version, "lesser"),
  );
  const notices = find("notices");
  notices.replaceChildren(...status.notices.map((notice) => el("p", {}, notice)));
  notices.hidden = status.notices.length === 0;
}

function modelText(model: ModelInfo | null): string {
  if (model === null) return "none";
  return model.is_demonstration ? `${model.id} (demonstration)` : model.id;
}

function showFailure(reason: string): void {
  const failure = find("failure");
  failure.replaceChildren(
    el("p", {}, reason),
    el("button", { type: "button", class: "primary", onclick: () => location.reload() }, "Try again"),
  );
  failure.hidden = false;
  find("app").hidden = true;
}

/** On a narrow screen the documents lie behind a button. */
function toggleDocuments(): void {
  const toggle = find("documents-toggle");
  const show = (isOpen?: boolean) =>
    toggle.setAttribute("aria-expanded", String(document.body.toggleAttribute("data-documents-open", isOpen)));
  toggle.addEventListener("click", () => show());
  // Its answer is in the other half.
  find("summarize").addEventListener("click", () => show(false));
}

toggleDocuments();
void start();
