import { texts } from "../texts";

export default function Chat({ rest }: { rest: string[] }) {
  return <h1>{texts.views.chat} {rest.join("/")}</h1>;
}
