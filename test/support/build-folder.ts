/** One folder for what a run of the tests compiles, there before the first test and gone after the last. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Names it to the processes that tests run in: these are ended without a chance to clean up. */
export const BUILD_VARIABLE = 'POSTERN_TEST_BUILD';

export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'postern-c-'));
  process.env[BUILD_VARIABLE] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
