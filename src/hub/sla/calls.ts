import type { Context } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import type { Page } from './queries.ts';

/** What all calls of this part have in common. */
export const slaCall = { tag: 'Service levels', auth: ['coordinator', 'admin'] } as const;

/** The items of a page; where it goes on stands in a header, because the body is a plain list. */
export function withCursor<Item>(c: Context<AppEnv>, { items, nextCursor }: Page<Item>): Item[] {
  if (nextCursor !== undefined) c.header('X-Next-Cursor', nextCursor);
  return items;
}
