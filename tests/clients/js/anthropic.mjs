// The official client of Anthropic.
import Anthropic from '@anthropic-ai/sdk'
import { description, end, lookUp, maxTokens, order, run, schema } from './trip.mjs'

const client = new Anthropic({ baseURL: order.url, apiKey: 'unused', maxRetries: 0 })
const tools = [{ name: 'weather', description, input_schema: schema, strict: true }]
const fields = { model: order.model, max_tokens: maxTokens, tools }
const question = { role: 'user', content: order.question }

const once = (body) => client.messages.create(body)

async function stream(body) {
  const events = client.messages.stream(body)
  const seen = { text: '', json: '' }
  events.on('text', (piece) => (seen.text += piece))
  events.on('inputJson', (piece) => (seen.json += piece))
  const message = await events.finalMessage()
  const text = message.content.filter((b) => b.type === 'text').map((b) => b.text).join('')
  const call = message.content.find((b) => b.type === 'tool_use')
  if (seen.text !== text) throw new Error('deltas of text differ from the message')
  if (call && JSON.stringify(JSON.parse(seen.json)) !== JSON.stringify(call.input)) throw new Error('deltas of input differ')
  return message
}

async function trip(ask) {
  const messages = [question]
  const first = await ask({ ...fields, messages, ...(order.choose ? { tool_choice: { type: 'tool', name: 'weather' } } : {}) })
  const calls = first.content.filter((b) => b.type === 'tool_use')
  if (first.stop_reason !== 'tool_use') throw new Error(`ends with ${first.stop_reason}`)
  messages.push({ role: 'assistant', content: first.content }, { role: 'user', content: calls.map((c) => (
    { type: 'tool_result', tool_use_id: c.id, content: lookUp(c.input) })) })
  const last = await ask({ ...fields, messages, ...(order.choose ? { tool_choice: { type: 'none' } } : {}) })
  end(calls.map(({ name, input }) => ({ name, input })), last.content.filter((b) => b.type === 'text').map((b) => b.text).join(''),
      last.usage.cache_read_input_tokens)
}

// The client's own loop: it calls the function and asks again.
async function toolRunner() {
  const calls = []
  const weather = { ...tools[0], parse: (input) => input,
    run: (input) => (calls.push({ name: 'weather', input }), lookUp(input)) }
  const last = await client.beta.messages.toolRunner({ ...fields, tools: [weather], messages: [question] })
  end(calls, last.content.filter((b) => b.type === 'text').map((b) => b.text).join(''), last.usage.cache_read_input_tokens)
}

await run({ messages: () => trip(once), 'messages-stream': () => trip(stream), 'tool-runner': toolRunner })
