import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { about, hasKey, json, leave, url, type About } from "./api";
import { away, back, tried } from "./away";
import { useKeys } from "./keys";
import { useLoaded } from "./loaded";
import { IconButton } from "./parts/button";
import { Icon } from "./parts/icon";
import { KeyPrompt } from "./parts/key";
import { KeyList } from "./parts/keylist";
import { Banner, Fenced } from "./parts/trouble";
import { go, link, place } from "./place";
import { open, routes, type Route } from "./routes";
import { useShared } from "./shared";
import { texts } from "./texts";
import { theme, THEMES, wear } from "./theme";

/** The page around its views. */
export function Frame() {
  const [path = "chat", ...rest] = useShared(place);
  const told = useShared(about);
  const [listed, list] = useState(false);
  const [menu, unfold] = useState(false);
  const first = useLoaded((signal) => json<About>("v1/page", { signal }), []);
  useEffect(() => {
    if (first.value) about.value = first.value;
  }, [first.value]);
  useEffect(() => unfold(false), [path]);
  const shown = routes.filter((one) => open(one, told));
  const route = shown.find((one) => one.path === path);
  useKeys([
    ...shown
      .filter((one) => !one.hidden)
      .map((one) => ({ keys: `g ${one.key}`, says: texts.keys.go(one.name), does: () => go([one.path]) })),
    { keys: "?", says: texts.keys.help, does: () => list(true) },
  ]);
  return (
    <div class={menu ? "frame unfolded" : "frame"}>
      <a class="skip" href="#content" onClick={skip}>
        {texts.frame.skip}
      </a>
      <header class="bar">
        <IconButton
          icon={menu ? "close" : "menu"}
          says={texts.frame.menu}
          size={20}
          aria-expanded={menu}
          aria-controls="navigation"
          onClick={() => unfold(!menu)}
        />
        <Brand />
      </header>
      <Navigation shown={shown} path={path} onKeys={() => list(true)} />
      <main id="content" tabIndex={-1}>
        <Connection />
        {route && <Shown key={route.path} route={route} rest={rest} />}
        {!route && (told || first.error !== null) && <NotThere />}
      </main>
      <KeyPrompt />
      {listed && <KeyList onClose={() => list(false)} />}
    </div>
  );
}

const BACK = 6000; // milliseconds for which it is said that the server is back

/** Whether the server is away, and for a moment that it is back. */
function Connection() {
  const gone = useShared(away);
  const times = useShared(back);
  const [said, say] = useState(0);
  useEffect(() => {
    if (said === times) return;
    const timer = setTimeout(() => say(times), BACK);
    return () => clearTimeout(timer);
  }, [times]);
  if (gone) return <Banner calm error={texts.trouble.waiting} again={() => void tried(url("v1/page"))} />;
  return said === times ? null : <Banner calm error={texts.trouble.back} close={() => say(times)} />;
}

// The hash is the place, so that a jump inside the page must not change it.
function skip(event: Event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Brand() {
  return (
    <a class="brand" href={link("chat")}>
      <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
        <rect width="32" height="32" rx="8" />
        <path d="M8 10.500h12a3 3 0 0 1 3 3v3M24 21.500H12a3 3 0 0 1-3-3v-3M20 14.600l3 3 3-3M6 17.400l3-3 3 3" />
      </svg>
      <span>{texts.name}</span>
    </a>
  );
}

function Navigation({ shown, path, onKeys }: { shown: Route[]; path: string; onKeys: () => void }) {
  const groups = (["talk", "watch"] as const).map((name) => ({
    name,
    of: shown.filter((one) => one.group === name && !one.hidden),
  }));
  const filled = groups.filter(({ of }) => of.length);
  return (
    <nav class="navigation" id="navigation" aria-label={texts.frame.navigation}>
      <Brand />
      {filled.map(({ name, of }) => (
        <section key={name} aria-labelledby={`group-${name}`}>
          <h2 class="group" id={`group-${name}`}>
            {texts.groups[name]}
          </h2>
          <ul>
            {of.map((one) => (
              <li key={one.path}>
                <a href={link(one.path)} aria-current={one.path === path ? "page" : undefined}>
                  <Icon name={one.icon} />
                  {one.name}
                </a>
              </li>
            ))}
          </ul>
        </section>
      ))}
      <footer>
        <ThemeChoice />
        <button type="button" class="quiet" onClick={onKeys}>
          <Icon name="keyboard" />
          {texts.frame.keys}
          <kbd>?</kbd>
        </button>
        {hasKey() && (
          <button type="button" class="quiet" onClick={leave}>
            <Icon name="key" />
            {texts.frame.leave}
          </button>
        )}
      </footer>
    </nav>
  );
}

function ThemeChoice() {
  const chosen = useShared(theme);
  return (
    <div class="segments" role="group" aria-label={texts.frame.theme}>
      {THEMES.map((one) => (
        <button
          type="button"
          key={one}
          aria-pressed={one === chosen}
          aria-label={texts.frame.themes[one]}
          title={texts.frame.themes[one]}
          onClick={() => wear(one)}
        >
          <Icon name={one} size={16} />
        </button>
      ))}
    </div>
  );
}

/** A view, once its part of the program is there. */
function Shown({ route, rest }: { route: Route; rest: string[] }) {
  const { value, error, again } = useLoaded(route.view, [route]);
  useEffect(() => void (document.title = texts.frame.title(route.name)), [route]);
  if (error !== null) return <Banner error={error} again={again} />;
  if (!value) return <p class="loading">{texts.frame.loading}</p>;
  const View = value.default as ComponentType<{ rest: string[] }>;
  return (
    <Fenced>
      <View rest={rest} />
    </Fenced>
  );
}

function NotThere() {
  return (
    <div class="empty">
      <h1>{texts.frame.notThere}</h1>
      <p>{texts.frame.notThereMore}</p>
      <a class="button" href={link("chat")}>
        {texts.frame.home}
      </a>
    </div>
  );
}
