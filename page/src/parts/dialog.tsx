import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { texts } from "../texts";
import { IconButton } from "./button";

interface Given {
  title: string;
  onClose: () => void;
  side?: boolean;
  children: ComponentChildren;
}

/** Something before the page: Escape and a click beside it close it, and focus goes back to where it was.
 * side: at the right edge, as high as the window. */
export function Dialog({ title, onClose, side = false, children }: Given) {
  const dialog = useRef<HTMLDialogElement>(null);
  const named = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => before instanceof HTMLElement && before.focus();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={side ? "dialog side" : "dialog"}
      aria-labelledby={named}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <div class="dialog-inside">
        <header class="dialog-head">
          <h2 id={named}>{title}</h2>
          <IconButton icon="close" says={texts.parts.close} onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}
