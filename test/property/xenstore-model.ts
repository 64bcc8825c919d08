/**
 * A XenStore in the plainest form: a map from paths to nodes, whole copies for transactions, a scan for watches. Slow and
 * obvious on purpose; it shares no code with the real one.
 */
export interface ModelNode {
  value: string;
  /** As on the wire: `n0|r1|`. */
  perms: string;
  children: string[];
}

export interface Change {
  readonly path: string;
  readonly kind: 'value' | 'perms' | 'created' | 'removed';
}

/** A change that fires watches. */
export interface Fired {
  readonly path: string;
  readonly exact: boolean;
  /** Permissions before, where they or the node changed. */
  readonly before: string | null;
}

const READ = 1;
const WRITE = 2;
const OWNER = 4;

export function rights(domid: number, perms: string): number {
  const entries = perms.split('|').slice(0, -1);
  const bits = (entry: string) => ({ n: 0, r: READ, w: WRITE, b: READ | WRITE })[entry[0] as 'n'] ?? 0;
  if (domid === 0 || Number(entries[0]?.slice(1)) === domid) return READ | WRITE | OWNER;
  for (const entry of entries.slice(1)) if (Number(entry.slice(1)) === domid) return bits(entry);
  return bits(entries[0] as string);
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

export class Model {
  nodes = new Map<string, ModelNode>();
  /** What the last operation changed and fired. */
  changes: Change[] = [];
  fired: Fired[] = [];

  clone(): Model {
    const copy = new Model();
    for (const [path, node] of this.nodes) copy.nodes.set(path, { ...node, children: [...node.children] });
    return copy;
  }

  run(domid: number, op: string, path: string, argument: string): string {
    this.changes = [];
    this.fired = [];
    const need = { READ, DIRECTORY: READ, GET_PERMS: READ, WRITE, MKDIR: WRITE, RM: WRITE, SET_PERMS: WRITE | OWNER }[
      op
    ] as number;
    const node = this.nodes.get(path);
    if (node === undefined) return this.#missing(domid, op, path, argument, need);
    if ((rights(domid, node.perms) & need) !== need) return 'EACCES';
    switch (op) {
      case 'READ':
        return node.value;
      case 'DIRECTORY':
        return node.children.map((name) => `${name}|`).join('');
      case 'GET_PERMS':
        return node.perms;
      case 'MKDIR':
        return 'OK|';
      case 'WRITE':
        node.value = argument;
        return this.#changed(path, 'value', null);
      case 'SET_PERMS': {
        const before = node.perms;
        if (domid !== 0 && argument.split('|')[0]?.slice(1) !== before.split('|')[0]?.slice(1)) return 'EPERM';
        node.perms = argument;
        return this.#changed(path, 'perms', before);
      }
      default:
        return path === '/' ? 'EINVAL' : this.#remove(path);
    }
  }

  #missing(domid: number, op: string, path: string, argument: string, need: number): string {
    let above = parentOf(path);
    while (!this.nodes.has(above)) above = parentOf(above);
    if ((rights(domid, (this.nodes.get(above) as ModelNode).perms) & need) === 0) return 'EACCES';
    if (op === 'RM') return above === parentOf(path) ? 'OK|' : 'ENOENT';
    if (op !== 'WRITE' && op !== 'MKDIR') return 'ENOENT';
    const missing: string[] = [];
    for (let p = path; !this.nodes.has(p); p = parentOf(p)) missing.unshift(p);
    for (const p of missing) {
      const parent = this.nodes.get(parentOf(p)) as ModelNode;
      const perms = domid === 0 ? parent.perms : parent.perms.replace(/^(.)\d+/, `$1${domid}`);
      parent.children.push(p.slice(p.lastIndexOf('/') + 1));
      this.nodes.set(p, { value: p === path ? argument : '', perms, children: [] });
      this.changes.push({ path: p, kind: 'created' });
    }
    this.fired.push({ path, exact: false, before: null });
    return 'OK|';
  }

  #changed(path: string, kind: Change['kind'], before: string | null): string {
    this.changes.push({ path, kind });
    this.fired.push({ path, exact: false, before });
    return 'OK|';
  }

  #remove(top: string): string {
    const walk = (path: string): void => {
      const node = this.nodes.get(path) as ModelNode;
      for (const name of node.children) walk(`${path}/${name}`);
      this.changes.push({ path, kind: 'removed' });
      this.fired.push({ path, exact: path !== top, before: node.perms });
    };
    walk(top);
    for (const { path } of this.changes) this.nodes.delete(path);
    const parent = this.nodes.get(parentOf(top)) as ModelNode;
    parent.children = parent.children.filter((name) => name !== top.slice(top.lastIndexOf('/') + 1));
    return 'OK|';
  }
}
