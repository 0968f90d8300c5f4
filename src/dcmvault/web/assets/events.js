// One event stream for a tab: every part of a page that waits for a topic (`sse:run`) shares it.
// It is closed while nobody looks at the tab, and comes back by itself; then all is looked at anew.

const RETRY_MS = [1000, 2000, 5000, 10000, 30000];
const MINUTE_MS = 60000;

class Stream extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.names = new Set();
    this.failures = 0;
    this.missed = false;
    document.addEventListener("visibilitychange", () => this.look());
    window.addEventListener("pagehide", () => this.close());
    setInterval(() => document.hidden || this.tell("minute"), MINUTE_MS);
    this.look();
  }

  addEventListener(name, listener) {
    super.addEventListener(name, listener);
    this.names.add(name);
    this.hear(name);
  }

  look() {
    if (document.hidden) this.close();
    else if (!this.source) this.open();
  }

  open() {
    clearTimeout(this.retry);
    this.source = new EventSource(this.url);
    this.heard = new Set();
    this.names.forEach((name) => this.hear(name));
    this.source.addEventListener("missed", () => this.tellAll());
    this.source.onopen = () => {
      this.failures = 0;
      document.documentElement.removeAttribute("data-lost");
      if (this.missed) this.tellAll();
      this.missed = true;
    };
    this.source.onerror = () => {
      this.close();
      const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
      this.failures += 1;
      if (this.failures === 2) {
        document.documentElement.setAttribute("data-lost", "");
        document.dispatchEvent(new CustomEvent("toast", { detail: { template: "toast-lost" } }));
      }
      this.retry = setTimeout(() => this.look(), wait);
    };
  }

  hear(name) {
    if (!this.source || this.heard.has(name) || name === "minute") return;
    this.heard.add(name);
    this.source.addEventListener(name, (event) => this.tell(name, event.data));
  }

  tell(name, data = "{}") {
    this.dispatchEvent(new MessageEvent(name, { data }));
  }

  tellAll() {
    this.names.forEach((name) => this.tell(name));
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = undefined;
  }
}

if (window.htmx) {
  let stream;
  // The extension asks for a source wherever `sse-connect` stands; there is one for all.
  window.htmx.createEventSource = (url) => (stream ??= new Stream(url));
}
if (window.Idiomorph) {
  // What somebody opened, or is typing into, stays as it is when a page is brought up to date; a
  // button in focus does not: it may do something else now, and has to say so.
  Object.defineProperty(window.Idiomorph.defaults, "ignoreActiveValue", {
    enumerable: true,
    get: () => document.activeElement?.matches("input, textarea, select") ?? false,
  });
  window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && (node.tagName === "DETAILS" || node.tagName === "DIALOG"));
}
