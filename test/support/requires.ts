/**
 * What a test needs from the machine, and how to say that it is missing: no test passes silently without its tools.
 *
 *     const needs = requires({ commands: ['cc'], files: ['/usr/include/xenctrl.h'], packages: ['gcc', 'libxen-dev'] });
 *     describe.skipIf(!needs.ok)(needs.named('C programs'), …)
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface Needs {
  readonly commands?: readonly string[];
  readonly files?: readonly string[];
  /** Needs root, as for taking another process's descriptors. */
  readonly root?: boolean;
  /** The Debian packages that bring all of it. */
  readonly packages: readonly string[];
}

export interface Found {
  readonly ok: boolean;
  /** What is missing and the one command that brings it; empty when nothing is. */
  readonly reason: string;
  /** A test's name, with the reason in it when it will be skipped. */
  named(name: string): string;
}

function canAccess(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function onPath(command: string): boolean {
  if (command.includes('/')) return canAccess(command, constants.X_OK);
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((folder) => folder !== '' && canAccess(join(folder, command), constants.X_OK));
}

export function requires(needs: Needs): Found {
  const missing = [
    ...(needs.commands ?? []).filter((command) => !onPath(command)),
    ...(needs.files ?? []).filter((file) => !canAccess(file, constants.R_OK)),
  ];
  const parts: string[] = [];
  if (missing.length > 0) {
    parts.push(`needs ${missing.join(', ')}: sudo apt-get install -y ${needs.packages.join(' ')}`);
  }
  if (needs.root === true && process.getuid?.() !== 0) parts.push('needs root: run the tests with sudo');
  const reason = parts.join('; ');
  const ok = reason === '';
  return { ok, reason, named: (name) => (ok ? name : `${name} [skipped: ${reason}]`) };
}
