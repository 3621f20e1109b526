// The model out of an APK: the caller's descriptor and offset, llama.cpp's file-pointer call, mapped where it can be.
#include <jni.h>
#include <llama.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

namespace {

struct Session {
    llama_model * model;
    llama_context * context;
};

void refuse(JNIEnv * env, const char * why) {
    env->ThrowNew(env->FindClass("java/lang/IllegalStateException"), why);
}

std::vector<char> bytes_of(JNIEnv * env, jbyteArray given) {
    std::vector<char> text(static_cast<size_t>(env->GetArrayLength(given)));
    env->GetByteArrayRegion(given, 0, static_cast<jsize>(text.size()), reinterpret_cast<jbyte *>(text.data()));
    return text;
}

std::vector<llama_token> tokens_of(const llama_vocab * vocab, const std::vector<char> & text) {
    const auto length = static_cast<int32_t>(text.size());
    const int32_t count = -llama_tokenize(vocab, text.data(), length, nullptr, 0, true, true);
    std::vector<llama_token> tokens(count > 0 ? static_cast<size_t>(count) : 0);
    if (count > 0) {
        llama_tokenize(vocab, text.data(), length, tokens.data(), count, true, true);
    }
    return tokens;
}

void append(const llama_vocab * vocab, llama_token token, std::string & out) {
    std::vector<char> piece(64);
    int32_t count = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, false);
    if (count < 0) {
        piece.resize(static_cast<size_t>(-count));
        count = llama_token_to_piece(vocab, token, piece.data(), -count, 0, false);
    }
    out.append(piece.data(), static_cast<size_t>(count > 0 ? count : 0));
}

}  // namespace

extern "C" JNIEXPORT jlong JNICALL
Java_edgewright_Native_open(JNIEnv * env, jobject, jint fd, jlong offset, jboolean map, jint tokens, jint threads) {
    const int own = dup(fd);  // the caller closes its own
    FILE * file = own < 0 ? nullptr : fdopen(own, "rb");
    if (file == nullptr) {
        if (own >= 0) {
            close(own);
        }
        refuse(env, "the descriptor cannot be read");
        return 0;
    }
    llama_model * model = nullptr;
    if (fseeko(file, static_cast<off_t>(offset), SEEK_SET) == 0) {
        llama_model_params params = llama_model_default_params();
        params.load_mode = map ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
        model = llama_model_load_from_file_ptr(file, params);
    }
    fclose(file);  // what is mapped stays mapped
    if (model == nullptr) {
        refuse(env, "llama.cpp does not load the model at this offset");
        return 0;
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(tokens);
    params.n_threads = params.n_threads_batch = threads;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        llama_model_free(model);
        refuse(env, "there is no memory for a context of so many tokens");
        return 0;
    }
    return reinterpret_cast<jlong>(new Session{model, context});
}

// The most likely tokens after a prompt, as UTF-8; the context is emptied before.
extern "C" JNIEXPORT jbyteArray JNICALL
Java_edgewright_Native_generate(JNIEnv * env, jobject, jlong handle, jbyteArray prompt, jint most) {
    auto * session = reinterpret_cast<Session *>(handle);
    const llama_vocab * vocab = llama_model_get_vocab(session->model);
    std::vector<llama_token> tokens = tokens_of(vocab, bytes_of(env, prompt));
    if (tokens.empty() || tokens.size() + static_cast<size_t>(most) > llama_n_ctx(session->context)) {
        refuse(env, "the prompt is empty, or does not fit into the context with its answer");
        return nullptr;
    }
    llama_memory_clear(llama_get_memory(session->context), true);
    const size_t step = llama_n_batch(session->context);
    std::string out;
    int32_t code = 0;
    for (size_t at = 0; at < tokens.size() && code == 0; at += step) {
        const size_t count = tokens.size() - at < step ? tokens.size() - at : step;
        code = llama_decode(session->context, llama_batch_get_one(tokens.data() + at, static_cast<int32_t>(count)));
    }
    for (int made = 0; made < most && code == 0; made++) {
        const float * logits = llama_get_logits_ith(session->context, -1);
        llama_token best = 0;
        for (llama_token token = 1; token < llama_vocab_n_tokens(vocab); token++) {
            best = logits[token] > logits[best] ? token : best;
        }
        if (llama_vocab_is_eog(vocab, best)) {
            break;
        }
        append(vocab, best, out);
        code = llama_decode(session->context, llama_batch_get_one(&best, 1));
    }
    if (code != 0) {
        refuse(env, "llama.cpp could not go on");
        return nullptr;
    }
    const auto length = static_cast<jsize>(out.size());
    jbyteArray answer = env->NewByteArray(length);
    if (answer != nullptr) {
        env->SetByteArrayRegion(answer, 0, length, reinterpret_cast<const jbyte *>(out.data()));
    }
    return answer;
}

extern "C" JNIEXPORT void JNICALL Java_edgewright_Native_close(JNIEnv *, jobject, jlong handle) {
    auto * session = reinterpret_cast<Session *>(handle);
    llama_free(session->context);
    llama_model_free(session->model);
    delete session;
}
