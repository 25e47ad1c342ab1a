// Elements from code. Text only ever becomes text nodes: nothing in this app parses HTML.

type Child = Node | string | null;
type Attributes = Record<string, string | boolean | EventListener | undefined>;

/** An attribute that is `true` is set bare, `false` is left out, and `onx` listens to event x. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (typeof value === "string") element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An element that index.html promises. */
export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element #${id}`);
  return element as T;
}

/** Sets text only when it differs, so that a live region does not speak twice. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Says something to a screen reader that the page shows without moving focus. */
export function announce(text: string): void {
  find("announcer").textContent = text;
}
