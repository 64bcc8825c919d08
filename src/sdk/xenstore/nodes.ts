/**
 * What can be done with nodes, directly or in a transaction.
 *
 * A path is absolute (`/local/domain/1/name`) or relative to the home of the connection's domain (`name`). Values are bytes;
 * where they are given or returned as strings, these are UTF-8.
 *
 * Every call may be given a signal: it then rejects with the signal's reason, and what was asked may have been done.
 * @spec xen:docs/misc/xenstore.txt
 */
import {
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_GET_PERMS,
  XS_MKDIR,
  XS_READ,
  XS_RM,
  XS_SET_PERMS,
  XS_WRITE,
} from '../../abi/xs-wire.js';
import type { Call } from './connection.js';
import { XenStoreError } from './error.js';
import { checkPath, payloadOf } from './payload.js';
import { formatPermissions, type NodePermissions, permissionsFromServer } from './permissions.js';
import { strings } from './wire.js';

/** How often a list that changes while it is read in parts is begun anew. */
const MAX_LIST_RESTARTS = 20;
/** Bytes of names in a list. A server with more is not believed. */
const MAX_LIST_BYTES = 64 << 20;

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Requests of one node, made by whoever extends this. */
export abstract class XenStoreNodes {
  /** @throws XenStoreError */
  protected abstract request<T>(call: Call<T>): Promise<T>;

  /** The value as text; bytes that are not UTF-8 become U+FFFD. @throws XenStoreError ENOENT, EACCES */
  read(path: string, options?: RequestOptions): Promise<string> {
    return this.#ask(XS_READ, 'read', path, [path], undefined, asText, options);
  }

  /** The value, 0 to 4096 bytes. @throws XenStoreError ENOENT, EACCES */
  readBytes(path: string, options?: RequestOptions): Promise<Uint8Array> {
    return this.#ask(XS_READ, 'read', path, [path], undefined, asBytes, options);
  }

  /** The value as text, undefined where there is no such node. @throws XenStoreError EACCES */
  async readIfExists(path: string, options?: RequestOptions): Promise<string | undefined> {
    return await unlessMissing(this.read(path, options));
  }

  /** Whether there is such a node. @throws XenStoreError EACCES */
  async exists(path: string, options?: RequestOptions): Promise<boolean> {
    const found = this.#ask(XS_READ, 'look for', path, [path], undefined, () => true as const, options);
    return (await unlessMissing(found)) ?? false;
  }

  /**
   * Sets the value; makes the node and missing nodes above it, which take their parent's permissions.
   * @param value path and value together hold at most 4095 bytes; on a node's size there is a quota besides (2048 bytes)
   * @throws XenStoreError EACCES, E2BIG too long, ENOSPC, ENOMEM a quota
   */
  write(path: string, value: string | Uint8Array, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_WRITE, 'write', path, [path], value, nothing, options);
  }

  /** Makes the node, empty, and missing nodes above it. One that exists stays as it is. @throws XenStoreError as `write` */
  mkdir(path: string, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_MKDIR, 'mkdir', path, [path], undefined, nothing, options);
  }

  /**
   * Removes the node and all below it. Where its parent exists and it doesn't, nothing happens.
   * @throws XenStoreError ENOENT no parent either, EACCES, EINVAL the root
   */
  remove(path: string, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_RM, 'remove', path, [path], undefined, nothing, options);
  }

  /**
   * Names of the nodes right below, in the server's order, however many.
   * @throws XenStoreError ENOENT, EACCES; EAGAIN where a long list changed each time it was read
   */
  async list(path: string, options?: RequestOptions): Promise<string[]> {
    try {
      return await this.#ask(XS_DIRECTORY, 'list', path, [path], undefined, strings, options);
    } catch (error) {
      if (!(error instanceof XenStoreError) || error.code !== 'E2BIG') throw error;
      return await this.#listInParts(path, options);
    }
  }

  /** @throws XenStoreError ENOENT, EACCES */
  getPermissions(path: string, options?: RequestOptions): Promise<NodePermissions> {
    const decode = (reply: Buffer): NodePermissions => permissionsFromServer(strings(reply), path);
    return this.#ask(XS_GET_PERMS, 'get permissions', path, [path], undefined, decode, options);
  }

  /**
   * Also of `@introduceDomain` and `@releaseDomain`: who may watch them.
   * @throws XenStoreError ENOENT, EACCES not the owner, ENOSPC too many entries; RangeError a domid that can be none
   */
  async setPermissions(path: string, permissions: NodePermissions, options?: RequestOptions): Promise<void> {
    const texts = [path, ...formatPermissions(permissions)];
    await this.#ask(XS_SET_PERMS, 'set permissions', path, texts, undefined, nothing, options);
  }

  #ask<T>(
    type: number,
    operation: string,
    path: string,
    texts: readonly string[],
    data: string | Uint8Array | undefined,
    decode: (reply: Buffer) => T,
    options: RequestOptions | undefined,
  ): Promise<T> {
    try {
      checkPath(path, operation);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.request({ type, payload: payloadOf(texts, data), operation, path, signal: options?.signal, decode });
  }

  /** The list's parts have the node's generation with them: where that changes, it is another list. */
  async #listInParts(path: string, options: RequestOptions | undefined): Promise<string[]> {
    for (let restarts = 0; restarts <= MAX_LIST_RESTARTS; restarts++) {
      const list = await this.#readParts(path, options);
      if (list !== undefined) return list;
    }
    const detail = `the list changed ${MAX_LIST_RESTARTS + 1} times while it was read; read it in a transaction`;
    throw new XenStoreError('EAGAIN', 'list', path, detail);
  }

  /** @returns undefined where the list changed meanwhile */
  async #readParts(path: string, options: RequestOptions | undefined): Promise<string[] | undefined> {
    const parts: Buffer[] = [];
    let generation: string | undefined;
    for (let offset = 0; offset < MAX_LIST_BYTES; ) {
      const texts = [path, String(offset)];
      const part = await this.#ask(XS_DIRECTORY_PART, 'list', path, texts, undefined, readPart, options);
      generation ??= part.generation;
      if (generation !== part.generation) return undefined;
      parts.push(part.names);
      if (part.isLast) return strings(Buffer.concat(parts));
      if (part.names.length === 0) throw new XenStoreError('EPROTO', 'list', path, 'the server sent an empty part');
      offset += part.names.length;
    }
    throw new XenStoreError('EPROTO', 'list', path, `the server's list does not end after ${MAX_LIST_BYTES} bytes`);
  }
}

interface Part {
  readonly generation: string;
  /** Whole names, each with its nul. */
  readonly names: Buffer;
  readonly isLast: boolean;
}

/** `generation|name|name|`, and one nul more with the last part. */
function readPart(reply: Buffer): Part {
  const nul = reply.indexOf(0);
  const end = reply.length;
  if (nul < 0) throw new XenStoreError('EPROTO', 'list', undefined, "the server's list has no generation");
  const isLast = end === nul + 2 ? reply[end - 1] === 0 : end > nul + 2 && reply[end - 1] === 0 && reply[end - 2] === 0;
  const names = Buffer.from(reply.subarray(nul + 1, isLast ? end - 1 : end));
  return { generation: reply.toString('latin1', 0, nul), names, isLast };
}

async function unlessMissing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof XenStoreError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const asText = (reply: Buffer): string => reply.toString('utf8');
const asBytes = (reply: Buffer): Uint8Array => Uint8Array.from(reply);
const nothing = (): void => {};
