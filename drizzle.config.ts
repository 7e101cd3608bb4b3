import { defineConfig } from 'drizzle-kit';

/** `npx drizzle-kit generate --name <what>` writes the next migration; the hub and the worker apply them at start. */
export default defineConfig({
  dialect: 'postgresql',
  schema: './src/hub/*/tables.ts',
  out: './drizzle',
  schemaFilter: ['poolhub'],
});
