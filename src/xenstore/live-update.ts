/**
 * CONTROL live-update: the daemon hands everything to a new program, and no client notices.
 *
 *     -f FILE            names the program and begins a session of this connection
 *     -c COMMAND-LINE    its arguments, instead of those of the present one
 *     -a                 ends the session
 *     -s [-t N] [-F]     starts it; the reply comes from the new program, or says why there is none
 *
 * Nothing waits for open transactions, as in C xenstored: they are handed over too. So -t and -F have no effect.
 * @spec xen:docs/misc/xenstore.txt CONTROL live-update
 */
import type { Connection } from './connection.js';
import type { XenstoreServer } from './server.js';

export interface UpdateSession {
  readonly connection: Connection;
  readonly file: string;
  commandLine: string | null;
}

/** What the host does about it. */
export interface UpdateHost {
  /** Why this program can't be the next; null where it can. */
  check(file: string): string | null;
  /** To be carried out once the present request is over: before its reply, see `answerUpdate`. */
  start(session: UpdateSession, requestId: number): void;
}

/** The answer as text; null where it comes later; undefined for what is no such command. */
export function controlUpdate(
  server: XenstoreServer,
  connection: Connection,
  requestId: number,
  parameters: readonly string[],
): string | null | undefined {
  const { update } = server.host;
  const [flag, argument] = parameters;
  if (update === undefined || flag === undefined) return undefined;
  const current = server.updateSession?.connection.open === true ? server.updateSession : null;
  const mine = current?.connection === connection ? current : null;
  switch (flag) {
    case '-f': {
      if (parameters.length !== 2 || argument === undefined) return undefined;
      if (current !== null) return 'Another live update is in progress.';
      const error = update.check(argument);
      if (error === null) server.updateSession = { connection, file: argument, commandLine: null };
      return error ?? 'OK';
    }
    case '-c':
      if (parameters.length !== 2 || argument === undefined) return undefined;
      if (mine === null) return 'Not in a live update: name the program first.';
      mine.commandLine = argument;
      return 'OK';
    case '-a':
      if (parameters.length !== 1) return undefined;
      if (current === null) return 'No live update to be ended.';
      server.updateSession = null;
      return 'OK';
    case '-s':
      if (!areStartOptions(parameters.slice(1))) return undefined;
      if (mine === null) return 'Not in a live update: name the program first.';
      update.start(mine, requestId);
      return null;
    default:
      return undefined;
  }
}

function areStartOptions(options: readonly string[]): boolean {
  for (let i = 0; i < options.length; i++) {
    if (options[i] === '-F') continue;
    if (options[i] !== '-t' || options[++i] === undefined) return false;
  }
  return true;
}
