// The two questions the app asks before going on: the API key, and whether to remove a document.
import { el } from "./dom";

/** Resolves with the key, or null when the reader closes the dialog. */
export function askForKey(wasRefused: boolean): Promise<string | null> {
  const input = el("input", {
    id: "api-key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    ...(wasRefused && { "aria-invalid": "true", "aria-describedby": "api-key-refused" }),
  });
  const dialog = ask(
    "key-title",
    "API key",
    [
      el("p", {}, "This server answers only with a key. It is kept in this tab until you close it."),
      el("label", { for: "api-key" }, "Key"),
      input,
      wasRefused ? el("p", { id: "api-key-refused", class: "problem" }, "The server did not accept that key.") : null,
    ],
    "Continue",
  );
  return closed(dialog).then((isAgreed) => (isAgreed ? input.value.trim() || null : null));
}

export function confirmRemoval(name: string): Promise<boolean> {
  return closed(
    ask(
      "remove-title",
      "Remove document?",
      [
        el("p", {}, el("b", {}, name), " and everything read from it will be deleted from the server."),
        el("p", {}, "Answers will no longer draw on it, and its citations can no longer be opened."),
      ],
      "Remove",
    ),
  );
}

function ask(titleId: string, title: string, body: (HTMLElement | null)[], agree: string): HTMLDialogElement {
  const dialog = el("dialog", { class: "question", "aria-labelledby": titleId });
  dialog.append(
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: titleId }, title),
      ...body,
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
        el("button", { class: "primary", value: "agreed" }, agree),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function closed(dialog: HTMLDialogElement): Promise<boolean> {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "agreed");
    });
  });
}
