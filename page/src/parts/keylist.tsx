import { allowSingle, held, single } from "../keys";
import { useShared } from "../shared";
import { texts } from "../texts";
import { Dialog } from "./dialog";
import { Switch } from "./switch";

/** The keys that hold now. */
export function KeyList({ onClose }: { onClose: () => void }) {
  const keys = useShared(held);
  const allowed = useShared(single);
  const fixed = [{ keys: "Escape", says: texts.keys.close }];
  return (
    <Dialog title={texts.keys.title} onClose={onClose}>
      <dl class="keys">
        {[...keys, ...fixed].map((one) => (
          <div key={one.keys + one.says}>
            <dt>
              {one.keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{one.says}</dd>
          </div>
        ))}
      </dl>
      <Switch on={allowed} onChange={allowSingle} label={texts.keys.single} more={texts.keys.singleMore} />
    </Dialog>
  );
}
