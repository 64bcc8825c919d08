/** The thread that the host runs in. */
import type { DomainPlan, XenstoreMode } from './commands.js';
import { HostCore } from './core.js';
import { serveReactor } from './reactor-worker.js';

export interface CoreOptions {
  readonly socketPath: string;
  readonly xenstorePath: string;
  readonly xenstore: XenstoreMode;
  readonly tracePath: string | undefined;
  readonly domains: readonly DomainPlan[];
}

serveReactor<CoreOptions>((options, reactor, { log }) => new HostCore(options, reactor, log));
