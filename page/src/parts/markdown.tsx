import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import jsonLanguage from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { Marked } from "marked";
import { useEffect, useRef } from "preact/hooks";
import { texts } from "../texts";

const LANGUAGES = {
  bash,
  cpp,
  css,
  java,
  javascript,
  json: jsonLanguage,
  python,
  sql,
  typescript,
  xml,
  yaml,
};
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

const TAGS =
  "a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s strong sub sup table tbody td th thead tr ul";
const ATTRIBUTES = ["href", "title", "start", "align", "class"];

// Pictures from elsewhere would tell elsewhere what is read here: they are links. Who is told of <div> wants to
// read it: HTML stands there as it was said.
const KNOWN = /^<\/?(?:b|br|em|i|strong|sub|sup)\s*\/?>$/i;
const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  renderer: {
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    html: ({ text }) => (KNOWN.test(text.trim()) ? text : escaped(text)),
  },
});

/** Text with marks of Markdown. Whatever it holds can neither run nor fetch anything. */
export function Markdown({ text }: { text: string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const { current } = place;
    if (!current) return;
    const clean = DOMPurify.sanitize(marked.parse(text, { async: false }), {
      ALLOWED_TAGS: TAGS.split(" "),
      ALLOWED_ATTR: ATTRIBUTES,
      ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
      RETURN_DOM_FRAGMENT: true,
    });
    clean.querySelectorAll("[class]:not(code)").forEach((one) => one.removeAttribute("class"));
    clean.querySelectorAll("a").forEach(outward);
    clean.querySelectorAll("table").forEach(sideways);
    clean.querySelectorAll("pre").forEach(coloured);
    current.replaceChildren(clean);
  }, [text]);
  return <div class="markdown" ref={place} />;
}

const escaped = (text: string): string => text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);

function outward(link: HTMLAnchorElement): void {
  if (!link.hasAttribute("href")) return;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

// A wide table is moved by itself, and the page is not.
function sideways(table: HTMLTableElement): void {
  const around = document.createElement("div");
  around.className = "table";
  around.tabIndex = 0;
  around.setAttribute("role", "region");
  around.setAttribute("aria-label", texts.parts.table);
  table.replaceWith(around);
  around.append(table);
}

function coloured(block: HTMLPreElement): void {
  const code = block.querySelector("code");
  const text = block.textContent ?? "";
  const name = /language-([\w+-]+)/.exec(code?.className ?? "")?.[1] ?? "";
  if (code && hljs.getLanguage(name)) code.innerHTML = hljs.highlight(text, { language: name }).value;
  block.tabIndex = 0;
  const around = document.createElement("figure");
  around.className = "code";
  const head = document.createElement("figcaption");
  const copy = document.createElement("button");
  Object.assign(copy, { type: "button", className: "quiet small", textContent: texts.parts.copy });
  copy.setAttribute("aria-label", texts.parts.copyCode);
  copy.addEventListener("click", () => void copied(text).then(() => (copy.textContent = texts.parts.copied)));
  head.append(name, copy);
  block.replaceWith(around);
  around.append(head, block);
}

/** Put a text on the clipboard; also where the page does not come over a safe connection. */
export async function copied(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
