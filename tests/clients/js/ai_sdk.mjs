// Vercel's AI SDK, through its providers for OpenAI-compatible servers, OpenAI (chat and responses) and Anthropic.
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai'
import { description, end, lookUp, maxTokens, order, schema } from './trip.mjs'

const baseURL = `${order.url}/v1`
const openai = () => createOpenAI({ baseURL, apiKey: 'unused' })
const models = {
  compatible: () => createOpenAICompatible({ name: 'tandem', baseURL, apiKey: 'unused', includeUsage: true,
    supportsStructuredOutputs: true })(order.model),
  chat: () => openai().chat(order.model),
  responses: () => openai().responses(order.model),
  anthropic: () => createAnthropic({ baseURL, apiKey: 'unused' })(order.model),
}

globalThis.AI_SDK_LOG_WARNINGS = false // on standard output
const [provider, kind] = order.way.split('-')
const calls = []
const options = {
  model: models[provider](),
  prompt: order.question,
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: maxTokens,
  onError: ({ error }) => { throw error },
}
const withTools = {
  ...options,
  tools: { weather: tool({ description, inputSchema: jsonSchema(schema),
    execute: (input) => (calls.push({ name: 'weather', input }), JSON.parse(lookUp(input))) }) },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => (order.choose
    ? { toolChoice: stepNumber === 0 ? { type: 'tool', toolName: 'weather' } : 'none' } : {}),
}

async function streamed() {
  const result = streamText(withTools)
  const seen = []
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error
    seen.push(part.type)
  }
  for (const type of ['tool-input-start', 'tool-input-delta', 'tool-call', 'tool-result', 'text-delta', 'finish'])
    if (!seen.includes(type)) throw new Error(`no ${type} among ${seen}`)
  return [await result.text, await result.usage]
}

async function once() {
  const { text, usage } = await generateText(withTools)
  return [text, usage]
}

// An object by a schema.
async function object() {
  const { output, usage } = await generateText({ ...options, output: Output.object({ schema: jsonSchema(schema) }) })
  return [JSON.stringify(output), usage]
}

const [text, usage] = await { once, stream: streamed, object }[kind]()
end(calls, text, usage.inputTokenDetails?.cacheReadTokens ?? usage.cachedInputTokens ?? null)
