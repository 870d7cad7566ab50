// The official client of OpenAI, through chat completions and responses.
import OpenAI from 'openai'
import { description, end, lookUp, maxTokens, order, run, schema } from './trip.mjs'

const client = new OpenAI({ baseURL: `${order.url}/v1`, apiKey: 'unused', maxRetries: 0 })
const tools = [{ type: 'function', function: { name: 'weather', description, parameters: schema, strict: true } }]
const forced = { type: 'function', function: { name: 'weather' } }
const question = { role: 'user', content: order.question }

async function chatOnce(messages, more) {
  const answer = await client.chat.completions.create({
    model: order.model, messages, tools, temperature: 0, max_tokens: maxTokens, ...more })
  return [answer.choices[0], answer.usage]
}

async function chatStream(messages, more) {
  const stream = client.chat.completions.stream({
    model: order.model, messages, tools, temperature: 0, max_tokens: maxTokens,
    stream_options: { include_usage: true }, ...more })
  const seen = { content: '', arguments: '' }
  stream.on('content', (piece) => (seen.content += piece))
  stream.on('tool_calls.function.arguments.delta', (e) => (seen.arguments += e.arguments_delta))
  const answer = await stream.finalChatCompletion()
  const [choice] = answer.choices
  if (seen.content !== (choice.message.content ?? '')) throw new Error('deltas of content differ from the message')
  const whole = (choice.message.tool_calls ?? []).map((c) => c.function.arguments).join('')
  if (seen.arguments !== whole) throw new Error(`deltas of arguments differ from the call: ${seen.arguments} ${whole}`)
  return [choice, answer.usage]
}

async function chat(ask) {
  const messages = [question]
  const [first] = await ask(messages, order.choose ? { tool_choice: forced } : {})
  const calls = first.message.tool_calls ?? []
  if (first.finish_reason !== 'tool_calls') throw new Error(`ends with ${first.finish_reason}`)
  messages.push(first.message)
  for (const call of calls)
    messages.push({ role: 'tool', tool_call_id: call.id, content: lookUp(JSON.parse(call.function.arguments)) })
  const [last, usage] = await ask(messages, order.choose ? { tool_choice: 'none' } : {})
  end(calls.map((c) => ({ name: c.function.name, input: JSON.parse(c.function.arguments) })), last.message.content,
      usage.prompt_tokens_details.cached_tokens)
}

// The client's own loop: it calls the function and asks again.
async function runTools() {
  const calls = []
  const weather = { name: 'weather', description, parameters: schema, parse: JSON.parse, strict: true,
    function: (input) => (calls.push({ name: 'weather', input }), lookUp(input)) }
  const runner = client.chat.completions.runTools({
    model: order.model, messages: [question], temperature: 0, max_tokens: maxTokens,
    tools: [{ type: 'function', function: weather }] })
  end(calls, await runner.finalContent(), (await runner.totalUsage()).prompt_tokens_details?.cached_tokens ?? null)
}

async function responsesOnce(input, more) {
  return client.responses.create({ model: order.model, input, temperature: 0, max_output_tokens: maxTokens, store: false,
    tools: [{ type: 'function', name: 'weather', description, parameters: schema, strict: true }], ...more })
}

async function responsesStream(input, more) {
  let last, number = -1
  for await (const event of await responsesOnce(input, { stream: true, ...more })) {
    if (event.sequence_number !== ++number) throw new Error(`event ${event.sequence_number} instead of ${number}`)
    last = event
  }
  if (last.type !== 'response.completed') throw new Error(`ends with ${last.type}`)
  return { ...last.response, output_text: last.response.output.flatMap((o) => o.content ?? []).map((c) => c.text).join('') }
}

async function responses(ask) {
  const input = [question]
  const first = await ask(input, order.choose ? { tool_choice: { type: 'function', name: 'weather' } } : {})
  const calls = first.output.filter((o) => o.type === 'function_call')
  input.push(...first.output)
  for (const call of calls)
    input.push({ type: 'function_call_output', call_id: call.call_id, output: lookUp(JSON.parse(call.arguments)) })
  const last = await ask(input, order.choose ? { tool_choice: 'none' } : {})
  end(calls.map((c) => ({ name: c.name, input: JSON.parse(c.arguments) })), last.output_text,
      last.usage.input_tokens_details.cached_tokens)
}

await run({
  chat: () => chat(chatOnce),
  'chat-stream': () => chat(chatStream),
  'run-tools': runTools,
  responses: () => responses(responsesOnce),
  'responses-stream': () => responses(responsesStream),
})
