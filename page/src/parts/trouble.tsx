import { Component, type ComponentChildren } from "preact";
import { LOST, Trouble } from "../api";
import { texts } from "../texts";
import { IconButton } from "./button";
import { Icon } from "./icon";

/** What is said of an error. */
export function words(error: unknown): string {
  if (error instanceof Trouble && error.seconds && error.status === 429)
    return `${error.message}. ${texts.trouble.seconds(error.seconds)}`;
  return error instanceof Error ? error.message : String(error);
}

interface Given {
  error: unknown;
  again?: (() => void) | undefined;
  close?: (() => void) | undefined;
  calm?: boolean;
}

/** An error, and the ways out; none where the server is away, of which the frame tells. calm: it will pass by
 * itself. */
export function Banner({ error, again, close, calm = false }: Given) {
  if (error instanceof Trouble && error.code === LOST) return null;
  return (
    <div class={calm ? "banner calm" : "banner"} role={calm ? "status" : "alert"}>
      <Icon name="alert" />
      <p>{words(error)}</p>
      {again && (
        <button type="button" class="small" onClick={again}>
          {texts.trouble.again}
        </button>
      )}
      {close && (
        <IconButton icon="close" says={texts.trouble.close} size={16} onClick={close} />
      )}
    </div>
  );
}

/** Shows what went wrong in a view in its place, so that the rest of the page goes on. */
export class Fenced extends Component<{ children: ComponentChildren }, { error: unknown }> {
  override state = { error: null as unknown };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <div class="empty" role="alert">
        <h1>{texts.trouble.crashed}</h1>
        <p>{words(this.state.error)}</p>
        <button type="button" onClick={() => window.location.reload()}>
          {texts.trouble.reload}
        </button>
      </div>
    );
  }
}
