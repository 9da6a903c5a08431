import { render } from "preact";
import { Frame } from "./frame";
import "./style.css";
import "./chat/chat.css";
import "./watch/watch.css";
import "./rate/rate.css";
import "./theme";

const where = document.getElementById("page");
if (where) render(<Frame />, where);
