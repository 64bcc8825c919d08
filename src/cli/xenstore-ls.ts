/**
 * `postern xenstore ls`: the tree with the look of xenstore-ls, to the byte where the output is no terminal. Not read in one
 * transaction, so what goes meanwhile is left out, as there. Unlike there, the nodes of a directory are asked for at once.
 */
import { formatPermissions, type NodePermissions, type XenStore, XenStoreError } from '../sdk/xenstore.js';
import { colors, say } from './output.js';
import { escapeValue, jsonValue } from './xenstore-values.js';

export interface LsOptions {
  /** Whole paths, one node a line, nothing cut off. */
  readonly flat: boolean;
  readonly permissions: boolean;
  /** Columns of the terminal; undefined for none. */
  readonly columns: number | undefined;
}

const DEFAULT_WIDTH = 80;
/** Where permissions begin, if the value ends before. */
const PERMISSIONS_COLUMN = 60;
/** Room that is kept for ` = "..."`. */
const TAG_LENGTH = 8;
/** Nodes asked for at a time. */
const BATCH = 128;

interface Node {
  readonly name: string;
  readonly path: string;
  /** Undefined where it cannot be read. */
  readonly value: Uint8Array | undefined;
  readonly permissions: NodePermissions | XenStoreError | undefined;
}

/** The lines of a tree, without its root. @throws XenStoreError where the root cannot be listed */
export async function* lsLines(store: XenStore, path: string, options: LsOptions): AsyncGenerator<string> {
  yield* linesBelow(store, path, 0, options);
}

async function* linesBelow(store: XenStore, path: string, depth: number, options: LsOptions): AsyncGenerator<string> {
  for await (const node of nodesBelow(store, path, depth, options.permissions)) {
    yield line(node, depth, options);
    yield* linesBelow(store, node.path, depth + 1, options);
  }
}

async function* nodesBelow(
  store: XenStore,
  path: string,
  depth: number,
  wantsPermissions: boolean,
): AsyncGenerator<Node> {
  const names = await namesBelow(store, path, depth);
  for (let from = 0; from < names.length; from += BATCH) {
    const batch = names.slice(from, from + BATCH).map((name) => readNode(store, path, name, wantsPermissions));
    yield* await Promise.all(batch);
  }
}

async function namesBelow(store: XenStore, path: string, depth: number): Promise<string[]> {
  try {
    return await store.list(path);
  } catch (error) {
    if (depth > 0 && error instanceof XenStoreError && error.code === 'ENOENT') return [];
    throw error;
  }
}

async function readNode(store: XenStore, parent: string, name: string, wantsPermissions: boolean): Promise<Node> {
  const path = `${parent}${parent.endsWith('/') ? '' : '/'}${name}`;
  const [value, permissions] = await Promise.all([
    refusedAs(undefined, store.readBytes(path)),
    wantsPermissions ? refusedAs('error', store.getPermissions(path)) : undefined,
  ]);
  return { name, path, value, permissions };
}

/** What a refusal for this one node stands for; a lost connection is everybody's end. */
async function refusedAs<T>(kind: 'error', wanted: Promise<T>): Promise<T | XenStoreError>;
async function refusedAs<T>(kind: undefined, wanted: Promise<T>): Promise<T | undefined>;
async function refusedAs<T>(kind: 'error' | undefined, wanted: Promise<T>): Promise<T | XenStoreError | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (!(error instanceof XenStoreError) || (error.code !== 'ENOENT' && error.code !== 'EACCES')) throw error;
    return kind === 'error' ? error : undefined;
  }
}

function line(node: Node, depth: number, { flat, permissions, columns }: LsOptions): string {
  const width = flat ? Number.POSITIVE_INFINITY : columns === undefined ? DEFAULT_WIDTH : columns - 2;
  const name = flat ? node.path : node.name.slice(0, atLeastAll(width - TAG_LENGTH - depth));
  let text = flat ? colors.cyan(name) : ' '.repeat(depth) + colors.cyan(name);
  let used = flat ? 0 : depth + name.length;
  if (node.value === undefined) {
    text += ':\n';
  } else if (width < used + node.value.length + TAG_LENGTH) {
    text += ` = "${escapeValue(node.value).slice(0, atLeastAll(width - TAG_LENGTH - used))}\\..."`;
  } else {
    const shown = ` = "${escapeValue(node.value)}"`;
    text += shown;
    used += shown.length;
    if (permissions) text += ` ${dots(used + 1, flat ? 0 : Math.min(PERMISSIONS_COLUMN, width))}`;
  }
  if (node.permissions instanceof XenStoreError) say(`postern: ${node.permissions.message}`);
  else if (node.permissions) text += `  ${colors.dim(`(${formatPermissions(node.permissions).join(',')})`)}`;
  return text;
}

/** How many characters of a text are printed: C's printf takes a negative precision for none. */
function atLeastAll(precision: number): number {
  return precision < 0 ? Number.POSITIVE_INFINITY : precision;
}

function dots(from: number, to: number): string {
  let text = '';
  for (let column = from; column < to; column++) text += column % 2 === 1 ? '.' : ' ';
  return text;
}

/** A tree as one object. */
export interface JsonNode {
  readonly path: string;
  readonly value?: string;
  readonly base64?: string;
  readonly permissions?: readonly string[];
  readonly children: readonly JsonNode[];
}

export async function lsJson(store: XenStore, path: string): Promise<JsonNode> {
  const [value, permissions] = await Promise.all([store.readBytes(path), store.getPermissions(path)]);
  return {
    path,
    ...jsonValue(value),
    permissions: formatPermissions(permissions),
    children: await childrenOf(store, path, 0),
  };
}

async function childrenOf(store: XenStore, path: string, depth: number): Promise<JsonNode[]> {
  const children: JsonNode[] = [];
  for await (const node of nodesBelow(store, path, depth, true)) {
    const { permissions } = node;
    children.push({
      path: node.path,
      ...(node.value !== undefined && jsonValue(node.value)),
      ...(permissions !== undefined &&
        !(permissions instanceof XenStoreError) && { permissions: formatPermissions(permissions) }),
      children: await childrenOf(store, node.path, depth + 1),
    });
  }
  return children;
}
