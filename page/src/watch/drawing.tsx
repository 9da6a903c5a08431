import DOMPurify from "dompurify";
import { useEffect, useRef } from "preact/hooks";

const TAGS = ["svg", "g", "line", "path", "circle", "rect", "polyline", "text", "title"];
const ATTRIBUTES = [
  ...["class", "viewBox", "width", "height", "role", "preserveAspectRatio", "transform", "text-anchor"],
  ...["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "points"],
];

/** A chart that the server drew. It stands in the page itself, so that it wears the page's colours. */
export function Drawing({ image, kind = "" }: { image: string; kind?: string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const clean = DOMPurify.sanitize(image, {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: ATTRIBUTES,
      RETURN_DOM_FRAGMENT: true,
    });
    place.current?.replaceChildren(clean);
  }, [image]);
  return <div class={kind ? `drawing ${kind}` : "drawing"} ref={place} />;
}
