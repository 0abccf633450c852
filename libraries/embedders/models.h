#pragma once

#include "embedders/text_encoder.h"

// One function a family; registry.cpp lists them by model_type.
namespace mlxcpp::embedders {

EncoderCreator bert();
EncoderCreator roberta();  // XLM-RoBERTa, too
EncoderCreator distilbert();
EncoderCreator nomic_bert();
EncoderCreator modernbert();
EncoderCreator qwen3();
EncoderCreator gemma3_text();

}  // namespace mlxcpp::embedders
