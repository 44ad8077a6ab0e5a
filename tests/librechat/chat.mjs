// A chat of LibreChat, without LibreChat: the npm package it talks to model APIs with, configured as its backend does.
//
//     node chat.mjs FOLDER        FOLDER/node_modules holds @librechat/agents
//
// Each line of stdin is a job and is answered by one line of stdout, both JSON. A job:
//
//     provider   openai | responses | custom | anthropic | google
//     baseUrl    as in OPENAI_REVERSE_PROXY and the like; custom: as `endpoints.custom[].baseURL`
//     headers    the endpoint's `headers`, with LibreChat's placeholders filled in
//     model, user (LibreChat's id of the person)
//     history    the conversation as LibreChat stores it: [{role, content}], content a text or content parts
//     text       what the person sends now
//     title      true: not a chat, but the call that names one, which LibreChat does not stream
//
// An answer:
//
//     shown      what the person reads: the text of the content parts, or of the title
//     error      what the error view makes of a failed call by the rules of LibreChat up to 0.8.7, or null
//     replaced   true where later LibreChats show a sentence of their own, whatever the answer said
//     history    the conversation as it is stored after this turn
//     requests   how many HTTP requests were made, repetitions included
//     seconds    from the call of the package to its end

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

// Lines of stdout are answers; the package and its dependencies write there as well.
for (const level of ["log", "info", "warn", "debug", "dir"]) console[level] = (...what) => console.error(...what);

// All three SDKs call the global `fetch`.
let requests = 0;
const { fetch } = globalThis;
globalThis.fetch = (...what) => (requests++, fetch(...what));

const load = createRequire(`${resolve(process.argv[2])}/package.json`);
const agents = load("@librechat/agents");
const { ContentTypes, GraphEvents, Providers, Run, TitleMethod } = agents;

// ----------------------------------------------------------------------------------------------- how LibreChat calls

// The client options of each endpoint, as LibreChat makes them from its environment and librechat.yaml.
const ENDPOINTS = {
  openai: (job) => [Providers.OPENAI, openAI(job)],
  responses: (job) => [Providers.OPENAI, { ...openAI(job), useResponsesApi: true }],
  // LibreChat asks custom endpoints for no usage in a stream.
  custom: (job) => [Providers.OPENAI, { ...openAI(job), streamUsage: false, usage: true }],
  anthropic: (job) => [
    Providers.ANTHROPIC,
    {
      model: job.model,
      apiKey: "k",
      stream: true,
      maxTokens: 8192,
      thinking: { type: "enabled", budget_tokens: 2000 },
      anthropicApiUrl: job.baseUrl,
      clientOptions: { baseURL: job.baseUrl, defaultHeaders: job.headers },
      invocationKwargs: { metadata: { user_id: job.user } },
      ...STREAMED,
    },
  ],
  google: (job) => [
    Providers.GOOGLE,
    {
      model: job.model,
      apiKey: "k",
      maxRetries: 2,
      baseUrl: job.baseUrl,
      customHeaders: job.headers,
      thinkingConfig: { thinkingBudget: -1, includeThoughts: true },
      ...STREAMED,
    },
  ],
};
const STREAMED = { streaming: true, streamUsage: true };
const OF_A_STREAM = ["streaming", "streamUsage", "stream", "thinking", "thinkingConfig"];

function openAI({ model, user, baseUrl, headers }) {
  return { model, user, apiKey: "k", configuration: { baseURL: baseUrl, defaultHeaders: headers }, ...STREAMED };
}

async function chat(job) {
  const [provider, clientOptions] = ENDPOINTS[job.provider](job);
  const { contentParts, aggregateContent } = agents.createContentAggregator();
  const collect = { handle: (event, data) => void aggregateContent({ event, data }) };
  const run = await Run.create({
    runId: `message-${job.history.length}`,
    graphConfig: {
      type: "standard",
      agents: [{ agentId: "a", provider, clientOptions, instructions: "Seja breve." }],
      edges: [],
    },
    returnContent: true,
    customHandlers: {
      [GraphEvents.CHAT_MODEL_END]: new agents.ModelEndHandler([]),
      [GraphEvents.CHAT_MODEL_STREAM]: new agents.ChatModelStreamHandler(),
      [GraphEvents.ON_RUN_STEP]: collect,
      [GraphEvents.ON_RUN_STEP_DELTA]: collect,
      [GraphEvents.ON_RUN_STEP_COMPLETED]: collect,
      [GraphEvents.ON_MESSAGE_DELTA]: collect,
      [GraphEvents.ON_REASONING_DELTA]: collect,
    },
  });
  const configurable = { thread_id: "conversation", user_id: job.user };
  if (job.title) {
    const options = Object.fromEntries(Object.entries(clientOptions).filter(([name]) => !OF_A_STREAM.includes(name)));
    const made = await run.generateTitle({
      provider,
      clientOptions: { ...options, streaming: false },
      inputText: job.text,
      contentParts: [],
      titleMethod: TitleMethod.COMPLETION,
      chainOptions: { configurable },
    });
    return { parts: [], shown: made.title ?? "" };
  }
  const payload = [...job.history, { role: "user", content: job.text }];
  const { messages } = agents.formatAgentMessages(payload);
  const config = { configurable, recursionLimit: 25, streamMode: "values", version: "v2" };
  try {
    await run.processStream({ messages }, config);
  } catch (failure) {
    contentParts.push({ type: ContentTypes.ERROR, [ContentTypes.ERROR]: errorPart(failure) });
    return { parts: contentParts, failure };
  }
  return { parts: contentParts };
}

// -------------------------------------------------------------------------------------------- what LibreChat shows

function errorPart(failure) {
  return `An error occurred while processing the request${failure?.message ? `: ${failure.message}` : ""}`;
}

// The first part of a text between balanced braces; braces within strings count as well. "" where there is none.
function firstObject(text) {
  let depth = 0;
  let start = -1;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "{" && depth++ === 0) start = at;
    if (text[at] === "}" && --depth === 0 && start !== -1) return text.slice(start, at + 1);
  }
  return "";
}

// What stands in the bubble of an error part. Of the keys that LibreChat knows, only those are told apart that a
// refusal can meet: `google_error`, whose `info` is shown as it is, and those with a fixed sentence (here: the key).
const FIXED = ["insufficient_quota", "invalid_api_key", "token_balance", "concurrent", "message_limit", "ban"];

function errorView(text) {
  const found = firstObject(text);
  const told = text.length > 512 && !found ? `${text.slice(0, 512)}...` : text;
  const otherwise = `Something went wrong. Here's the specific error message we encountered: ${told}`;
  let json;
  try {
    json = JSON.parse(found);
  } catch {
    return otherwise;
  }
  const key = json.code || json.type;
  if (key === "google_error") return json.info;
  return FIXED.includes(key) ? `<${key}>` : otherwise;
}

// --------------------------------------------------------------------------------------------------------------- jobs

async function answer(job) {
  const began = performance.now();
  requests = 0;
  let outcome;
  try {
    outcome = await chat(job);
  } catch (failure) {
    outcome = { parts: [], failure }; // of a title: LibreChat logs it and shows nothing
  }
  const seconds = (performance.now() - began) / 1000;
  const parts = outcome.parts.filter((part) => part);
  const texts = parts.filter((part) => part.type === ContentTypes.TEXT).map((part) => part.text);
  return {
    shown: outcome.shown ?? texts.join(""),
    error: outcome.failure ? errorView(errorPart(outcome.failure)) : null,
    replaced: outcome.failure?.lc_error_code === "MODEL_RATE_LIMIT",
    history: [...job.history, { role: "user", content: job.text }, { role: "assistant", content: parts }],
    requests,
    seconds,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
process.exit(0);
