import type { Permit } from '../platform/auth.ts';
import type { Limit, LimitGuesses, LimitMiner } from '../platform/rate-limit.ts';

/** What stands before the handlers of a route: who may call, and how often. */
export interface Guards {
  readonly permit: Permit;
  readonly limit: Limit;
  readonly limitMiner: LimitMiner;
  readonly limitGuesses: LimitGuesses;
}
